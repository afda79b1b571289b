import os
import sys
import pycurl
c = pycurl.Curl()
c.setopt(c.URL, "https://api.openai.com/v1/models")
if len(sys.argv) > 1:  # as a program does that wants to use SSL_CERT_FILE
    c.setopt(c.CAINFO, os.environ["SSL_CERT_FILE"])
c.perform()
