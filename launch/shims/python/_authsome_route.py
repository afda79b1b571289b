"""Has four libraries look at HTTPS_PROXY and NO_PROXY that otherwise do not.

Nothing is imported for it: each is changed when the program imports it.

    http.client      HTTPSConnection opens a tunnel
    urllib3          PoolManager asks a ProxyManager for its connections
    aiohttp          ClientSession passes a proxy, as with trust_env
    websockets       before version 15, connect() gets a socket of the tunnel

A proxy that the program names itself, a connection that is a tunnel already,
hosts in NO_PROXY and plain http are left alone. So is everything when the
variables are unset. What cannot be changed stays as it was.
"""

import os
import sys


def _proxy(host, port=443):
    """The proxy for https to host as (URL, host, port, Authorization), or None."""
    if not host or not (os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")):
        return None
    from urllib.parse import unquote, urlsplit
    from urllib.request import getproxies_environment, proxy_bypass_environment
    proxies = getproxies_environment()
    url = proxies.get("https", "")
    if not url.startswith("http://"):
        return None
    if proxy_bypass_environment("%s:%s" % (host, port or 443), proxies):
        return None
    parts = urlsplit(url)
    auth = None
    if parts.username is not None:
        import base64
        pair = unquote(parts.username) + ":" + unquote(parts.password or "")
        auth = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return url, parts.hostname, parts.port or 80, auth


def _http_client(module):
    """http.client.HTTPSConnection, which urllib3 and httplib2 do not use."""
    import socket
    cls = module.HTTPSConnection
    connect = cls.connect

    def routed(self):
        if self._tunnel_host or getattr(self, "_create_connection", None) is not socket.create_connection:
            return connect(self)
        proxy = _proxy(self.host, self.port)
        if proxy is None:
            return connect(self)
        target = self.host, self.port
        self.set_tunnel(self.host, self.port, {"Proxy-Authorization": proxy[3]} if proxy[3] else None)
        self.host, self.port = proxy[1], proxy[2]
        try:
            return connect(self)
        finally:
            # As before, so that a second connection is opened in the same way.
            self.host, self.port = target
            self._tunnel_host = self._tunnel_port = None
            self._tunnel_headers = {}

    cls.connect = routed


def _urllib3(module):
    manager = module.PoolManager
    connection_from_host = manager.connection_from_host

    def routed(self, host, port=None, scheme="http", pool_kwargs=None):
        if scheme == "https" and getattr(self, "proxy", None) is None:
            proxy = _proxy(host, port)
            if proxy is not None:
                return through(self, proxy).connection_from_host(host, port, scheme, pool_kwargs)
        return connection_from_host(self, host, port, scheme, pool_kwargs)

    def through(self, proxy):
        key, made = self.__dict__.get("_authsome_route", (None, None))
        if key != proxy:
            kw = dict(self.connection_pool_kw)
            roots = os.environ.get("SSL_CERT_FILE")
            # Version 1.26 reads no variable for its roots.
            if roots and not any(kw.get(k) for k in ("ca_certs", "ca_cert_dir", "ca_cert_data", "ssl_context", "cert_reqs")):
                kw["ca_certs"] = roots
            headers = {"Proxy-Authorization": proxy[3]} if proxy[3] else None
            made = module.ProxyManager(proxy[0], proxy_headers=headers, **kw)
            self.__dict__["_authsome_route"] = (proxy, made)
        return made

    manager.connection_from_host = routed


def _aiohttp(module):
    cls = module.ClientSession
    request = cls._request

    # Not trust_env itself: that would read .netrc as well.
    async def routed(self, method, str_or_url, **kw):
        if kw.get("proxy") is None and not self._trust_env and getattr(self, "_default_proxy", None) is None:
            try:
                from yarl import URL
                url = URL(str_or_url)
                if getattr(self, "_base_url", None) is not None and not url.is_absolute():
                    url = self._base_url.join(url)
                proxy = _proxy(url.host, url.port) if url.scheme in ("https", "wss") else None
            except Exception:
                proxy = None
            if proxy is not None:
                kw["proxy"] = proxy[0]
        return await request(self, method, str_or_url, **kw)

    cls._request = routed


def _websockets(module):
    import functools
    cls = module.Connect
    init = cls.__init__

    def routed(self, *args, **kw):
        init(self, *args, **kw)
        create = self._create_connection  # partial(loop.create_connection, factory, host, port, …)
        if len(create.args) != 3 or not create.keywords.get("ssl"):
            return

        async def connect(factory, host=None, port=None, **kw):
            proxy = _proxy(host, port) if kw.get("sock") is None else None
            if proxy is None:
                return await create.func(factory, host, port, **kw)
            import asyncio
            for name in ("family", "proto", "flags", "local_addr", "happy_eyeballs_delay", "interleave"):
                kw.pop(name, None)
            kw.setdefault("server_hostname", host)
            kw["sock"] = await asyncio.get_running_loop().run_in_executor(None, _tunnel, proxy, host, port)
            try:
                return await create.func(factory, **kw)
            except BaseException:
                kw["sock"].close()
                raise

        self._create_connection = functools.partial(connect, *create.args, **create.keywords)

    cls.__init__ = routed


def _tunnel(proxy, host, port):
    """A socket to host through the proxy (RFC 9110 section 9.3.6)."""
    import socket
    name = "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)
    lines = ["CONNECT %s HTTP/1.1" % name, "Host: %s" % name]
    if proxy[3]:
        lines.append("Proxy-Authorization: " + proxy[3])
    sock = socket.create_connection((proxy[1], proxy[2]), timeout=60)
    try:
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        answer = b""
        # By the byte, since what follows is TLS and not ours.
        while not answer.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            if not byte or len(answer) > 65536:
                raise OSError("the proxy closed the connection")
            answer += byte
        status = answer.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(status) < 2 or status[1] != b"200":
            raise OSError("the proxy answers %s to CONNECT %s" % (b" ".join(status[1:]).decode("latin-1"), name))
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise


_CHANGES = {
    "http.client": _http_client,
    "urllib3.poolmanager": _urllib3,
    "aiohttp.client": _aiohttp,
    "websockets.legacy.client": _websockets,
}


class _Finder(object):
    """Finds what the other finders find, and has it changed once it is loaded."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        change = _CHANGES.pop(name, None)
        if change is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is _Finder or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                # A class is shared by all modules that it loads.
                if hasattr(spec.loader, "exec_module") and not isinstance(spec.loader, type):
                    _wrap(spec.loader, change)
                return spec
        return None


def _wrap(loader, change):
    exec_module = loader.exec_module

    def changed(module):
        exec_module(module)
        try:
            change(module)
        except Exception:
            pass

    try:
        loader.exec_module = changed
    except AttributeError:
        pass


def install():
    for name in list(_CHANGES):
        if name in sys.modules:
            _CHANGES.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, _Finder)
