"""Everything but RDS and AWS Backup: moto's own backends, in this process.

Served are the services in `SERVICES`; others are refused, so that a client cannot come to rely on
something that nobody looked at. Flask and moto are imported on the first such call (or by the
warm-up thread that the server starts).
"""

import importlib
import io
import os
import sys
import threading
from urllib.parse import unquote

SERVICES = {"sts", "iam", "kms", "ec2", "secretsmanager", "route53", "sns", "sqs", "monitoring", "s3", "events", "logs", "ssm"}

# Services whose backends a reset may keep as they are while nothing was changed in them: rebuilding
# default networks takes longer than most tests.
KEPT = ("ec2", "kms")

_lock = threading.Lock()
_app = None
_touched = set()


def load():
    """Import moto, once; two threads that import its circular modules at a time see halves of them."""
    global _app
    with _lock:
        if _app is None:
            # Nobody starts virtual machines here; the list of images takes longer than the rest.
            os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
            import moto.ec2.models
            import moto.iam.models
            import moto.kms.models
            import moto.sts.models  # noqa: F401
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

            _app = DomainDispatcherApplication(create_backend_app)
        return _app


def backend(service, account, region):
    """moto's own backend of ec2, iam, kms or sts."""
    load()
    module = importlib.import_module(f"moto.{service}.models")
    return getattr(module, f"{service}_backends")[account][region]


def call(service, action, method, target, headers, body, account, host):
    """(status, headers, body) of moto's answer."""
    if not action.startswith(("Describe", "List", "Get")):
        _touched.add(service)
    path, _, query = target.partition("?")
    environ = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": unquote(path), "QUERY_STRING": query,
        "RAW_URI": target, "REQUEST_URI": target,
        "SERVER_NAME": host[0], "SERVER_PORT": str(host[1]), "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False, "CONTENT_LENGTH": str(len(body)),
    }
    for name, value in headers.items():
        if name.lower() == "content-type":
            environ["CONTENT_TYPE"] = value
        elif name.lower() not in ("content-length", "transfer-encoding"):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
    answer = {}

    def start_response(status, response_headers, exc_info=None):
        answer["status"] = int(status.split()[0])
        answer["headers"] = response_headers

    chunks = load()(environ, start_response)
    try:
        content = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    return answer["status"], answer["headers"], content


def reset():
    """Forget all of moto's state, if it was ever loaded.

    Dropping the backends is enough: moto's own reset first rebuilds each of them. Only S3's holds
    files that want closing.
    """
    if "moto.core.base_backend" in sys.modules:
        from moto.core.base_backend import BackendDict, backend_lock

        with _lock, backend_lock:
            for found in list(BackendDict._instances):
                if found.service_name in KEPT and found.service_name not in _touched:
                    continue
                if found.service_name == "s3":
                    for account in found.values():
                        account.reset()
                found.clear()
                BackendDict._instances.remove(found)
            _touched.clear()
