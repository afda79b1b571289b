import httplib2
print(httplib2.Http().request("https://api.openai.com/v1/models")[1].decode())
