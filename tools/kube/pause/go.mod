// The container that holds a pod's namespaces in the real-cluster tests.
module tessellate.dev/tools/kube/pause

go 1.26.0
