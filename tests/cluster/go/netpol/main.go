// Netpol decides which connections NetworkPolicies allow: the controller of kube-network-policies, which takes
// what it is to know from a file in the place of an API server.
//
// usage: netpol FILE, a JSON list of NetworkPolicies, Namespaces and Pods. Of the network namespace that it runs in it
// decides about the packets that reach NFQUEUE 100, until its input ends.
package main

import (
	"context"
	"encoding/json"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

const (
	node  = "node"
	queue = 100
)

func main() {
	if err := enforce(os.Args[1]); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func enforce(path string) error {
	objects, err := read(path)
	if err != nil {
		return err
	}
	// It would ask the container runtime of this machine for its pods: those of the file are all that there are.
	os.Setenv("NRI_PLUGIN_SOCKET", "none")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	client := fake.NewSimpleClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	controller, err := networkpolicy.NewController(
		client, factory.Networking().V1().NetworkPolicies(), core.Namespaces(), core.Pods(), core.Nodes(),
		nil, nil, nil, networkpolicy.Config{NodeName: node, QueueID: queue},
	)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	return controller.Run(ctx)
}

func read(path string) ([]runtime.Object, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var documents []json.RawMessage
	if err := json.Unmarshal(content, &documents); err != nil {
		return nil, err
	}
	var objects []runtime.Object
	for _, document := range documents {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		if policy, ok := object.(*networkingv1.NetworkPolicy); ok {
			complete(policy)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// complete does what an API server does with a port that names no protocol.
func complete(policy *networkingv1.NetworkPolicy) {
	var ports []*networkingv1.NetworkPolicyPort
	for i := range policy.Spec.Ingress {
		for j := range policy.Spec.Ingress[i].Ports {
			ports = append(ports, &policy.Spec.Ingress[i].Ports[j])
		}
	}
	for i := range policy.Spec.Egress {
		for j := range policy.Spec.Egress[i].Ports {
			ports = append(ports, &policy.Spec.Egress[i].Ports[j])
		}
	}
	tcp := corev1.ProtocolTCP
	for _, port := range ports {
		if port.Protocol == nil {
			port.Protocol = &tcp
		}
	}
}
