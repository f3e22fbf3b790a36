"""Feature shards: computing them with Ray Data, and reading them back as padded tensors.

`preprocess` writes what `store` finds and `ragged` hands to a network; `layout` is what they agree on.
Nothing is imported here, so that a preprocessing worker does not pay for torch.
"""
