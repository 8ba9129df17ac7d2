"""What others run dense networks with, a file for each: functions from a workload and a number of threads to a call.

Each imports its library when it is called; what is missing is a row that says so. All but PyTorch's own read the
network as ONNX (`onnx_model`).
"""
