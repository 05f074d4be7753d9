"""gRPC as far as BuildKit and containerd need it: messages made at run time, dialling, and the content store both serve.

grpcio costs 20 MB and a fifth of a second, so nothing here is imported before such a source is used.
"""
