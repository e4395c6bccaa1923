// Pause holds the namespaces of a pod open until it is told to end.
//
// It is the first process of a pod that shares its process namespace, so orphans come to it: the
// kernel takes them away by itself from whoever ignores SIGCHLD.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGCHLD)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
