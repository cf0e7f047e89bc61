"""A trained detector as an ONNX graph, written node by node: no tracing, and no module but these knows of ONNX."""
