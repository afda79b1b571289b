import http.client
c = http.client.HTTPSConnection("api.openai.com")
for _ in range(2):
    c.request("GET", "/v1/models")
    print(c.getresponse().read().decode())
c.close()
c.request("GET", "/v1/models", headers={"Connection": "close"})
print(c.getresponse().read().decode(), c.host)
