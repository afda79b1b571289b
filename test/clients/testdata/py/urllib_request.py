import urllib.request
print(urllib.request.urlopen("https://api.openai.com/v1/models").read().decode())
