"""Fine-tune a language model with one Kubernetes resource: the API, the plan and their executors."""
