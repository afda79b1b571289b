"""What the shim must leave as it is. Each line of the output is one finding."""
import base64
import http.client
import os
import sys
from urllib.parse import unquote, urlsplit

import sitecustomize

print("sitecustomize:", getattr(sitecustomize, "MINE", None))
print("in front:", os.path.basename(sys.path[1]))


def get(host, port=443):
    try:
        c = http.client.HTTPSConnection(host, port, timeout=10)
        c.request("GET", "/v1/models")
        return c.getresponse().status
    except OSError as err:
        return "%s %s" % (type(err).__name__, err)


print("routed:", get("api.openai.com"))
print("refused:", get("unknown.example.com"))
print("NO_PROXY:", get("sub.elsewhere.example") != 200)
print("this machine:", get("localhost", 1) != 200)

# A tunnel that the program makes itself.
proxy = urlsplit(os.environ["HTTPS_PROXY"])
auth = base64.b64encode(("%s:%s" % (proxy.username, unquote(proxy.password))).encode()).decode()
c = http.client.HTTPSConnection(proxy.hostname, proxy.port)
c.set_tunnel("api.openai.com", 443, {"Proxy-Authorization": "Basic " + auth})
c.request("GET", "/v1/models")
print("a tunnel:", c.getresponse().status)

for name in ("HTTPS_PROXY", "https_proxy"):
    os.environ.pop(name, None)
print("without the variables:", get("unset.example") != 200)
