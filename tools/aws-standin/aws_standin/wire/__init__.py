"""The two wire protocols that the stand-in serves itself, driven by botocore's service models.

`models` loads a model, `query` speaks RDS's protocol, `restjson` AWS Backup's, `errors` holds the
one exception that every handler raises.
"""
