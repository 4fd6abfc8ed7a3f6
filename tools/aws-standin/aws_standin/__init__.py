"""A strict stand-in for the AWS services that managed databases are backed up with.

It speaks the real wire protocols of RDS (with Aurora and DocumentDB) and AWS Backup, checks every
request against botocore's service models, and enforces the provider's rules: states, windows,
quotas, pages, locks. The services around them (STS, IAM, KMS, EC2, ...) are moto's, in the same
process. `README.md` beside this package says what is enforced and what is not modelled.
"""
