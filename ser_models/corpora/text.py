"""Reading the text files of a corpus, whatever program wrote them."""

from ser_models import places


def read_text(uri: str) -> tuple[str, str | None]:
    r"""Read a text file as UTF-8, or as Windows-1252 where it is not UTF-8.

    Returns:
        The text, line ends as ``\n`` and without a byte order mark, and a remark for the notes where it had to
        be read as Windows-1252.

    Raises:
        FileNotFoundError: nothing is there.
    """
    content = places.read_bytes(uri)
    remark = None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Five bytes have no meaning in Windows-1252; they stay visible instead of stopping the whole corpus.
        text = content.decode("cp1252", errors="replace")
        remark = (
            f"{places.name(uri)} is not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}): "
            "read as Windows-1252"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n"), remark
