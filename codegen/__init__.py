"""Graph to Artifact: kernels, plans and LLVM text. Layer 4. Imported as `graphc.codegen`, whatever the folder."""

if __name__ != "graphc.codegen":
    raise ImportError(
        f"this package is graphc.codegen, not {__name__}: install graphc (pip install -e .) and import graphc.codegen"
    )
