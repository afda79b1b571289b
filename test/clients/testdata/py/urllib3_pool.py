import urllib3
pool = urllib3.PoolManager()
print([pool.request("GET", "https://api.openai.com/v1/models").data.decode() for _ in range(2)])
