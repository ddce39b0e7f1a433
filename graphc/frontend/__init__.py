"""The room where user code becomes graphs: tensors, dynamic mode, tracing, the compile driver. Layer 5."""
