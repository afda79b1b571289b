module github.com/authsome/authsome/test

go 1.26.0

replace github.com/authsome/authsome => ../

require (
	github.com/coder/websocket v1.8.15
	github.com/creack/pty v1.1.24
)
