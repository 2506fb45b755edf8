"""Words that many summaries need."""


def counted(number: int, noun: str) -> str:
    """Return `1 rule`, `1,200 rules`, `2 policies`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"
