import httpx
print(httpx.get("https://api.openai.com/v1/models").text)
