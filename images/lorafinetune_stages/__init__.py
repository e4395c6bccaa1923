"""The stage programs: they know the contract and the store, and nothing of Kubernetes."""
