// Command echo says over HTTP on port 8080 which host it is; given a URL, it prints what that says instead.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		fetch(os.Args[1])
		return
	}
	http.HandleFunc("/", func(response http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(response, name)
	})
	fmt.Println("listening on :8080")
	refuse(http.ListenAndServe(":8080", nil))
}

func fetch(url string) {
	if url == "--help" {
		fmt.Println("usage: echo [URL]")
		return
	}
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	refuse(err)
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	refuse(err)
}

func refuse(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
