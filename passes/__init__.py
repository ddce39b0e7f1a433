"""Graph to graph: the passes, their manager and pipelines. Layer 4. Imported as `graphc.passes`, whatever the folder."""

if __name__ != "graphc.passes":
    raise ImportError(
        f"this package is graphc.passes, not {__name__}: install graphc (pip install -e .) and import graphc.passes"
    )
