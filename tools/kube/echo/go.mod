// What pods run in the real-cluster tests where nothing of Tessellate is needed.
module tessellate.dev/tools/kube/echo

go 1.26.0
