package main

import (
	"io"
	"net/http"
	"os"
)

func main() {
	r, err := http.Get("https://api.openai.com/v1/models")
	if err != nil {
		panic(err)
	}
	_, _ = io.Copy(os.Stdout, r.Body)
}
