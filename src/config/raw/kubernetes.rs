//! Variables of Kubernetes as the DCS.

use super::variables;

variables! {
    /// Where the cluster's state is kept, in Kubernetes.
    Kubernetes in kubernetes {
        /// Labels of the cluster's pods, and of each object that is made for it; with the scope's label they select
        /// what belongs to it.
        patroni_kubernetes_labels: Map, "kubernetes.labels", "application: patroni", Restart;
        /// The label whose value is the scope.
        patroni_kubernetes_scope_label: Text, "kubernetes.scope_label", "cluster-name", Restart;
        /// The label of a pod that tells its role.
        patroni_kubernetes_role_label: Text, "kubernetes.role_label", "role", Restart;
        /// Value of the role's label on the leader's pod.
        patroni_kubernetes_leader_label_value: Text, "kubernetes.leader_label_value", "primary", Restart;
        /// Value of the role's label on a replica's pod.
        patroni_kubernetes_follower_label_value: Text, "kubernetes.follower_label_value", "replica", Restart;
        /// Value of the role's label on a standby leader's pod.
        patroni_kubernetes_standby_leader_label_value: Text, "kubernetes.standby_leader_label_value", "primary", Restart;
        /// A second label with the role, in words of its own: `primary` or `replica`. For changing the values of the first.
        patroni_kubernetes_tmp_role_label: Text, "kubernetes.tmp_role_label", "", Restart;
        /// Labels that a pod has while its data directory is being made.
        patroni_kubernetes_bootstrap_labels: Map, "kubernetes.bootstrap_labels", "{}", Restart;
        /// The namespace of the cluster's pods and objects.
        patroni_kubernetes_namespace: Text, "kubernetes.namespace",
            "that of the service account or of the kubeconfig's context, else default", Restart;
        /// Whether the state is kept in Endpoints, which lead the Service of the scope's name to the primary. Otherwise in
        /// ConfigMaps.
        patroni_kubernetes_use_endpoints: Switch, "kubernetes.use_endpoints", "off", Restart;
        /// Whether a Lease is the lock, and an EndpointSlice leads the Service of the scope's name to the primary. No member or
        /// command of Patroni can take part then.
        patroni_kubernetes_use_leases: Switch, "kubernetes.use_leases", "off", Restart;
        /// The address that the leader writes into the Endpoints or the EndpointSlice.
        patroni_kubernetes_pod_ip: Text, "kubernetes.pod_ip", "POD_IP, else the pod's address", Restart;
        /// Ports of the Endpoints or the EndpointSlice: a list of maps with `port`, `name` and `protocol`. Names are those of the Service's ports.
        patroni_kubernetes_ports: List, "kubernetes.ports", "[{port: 5432}]", Restart;
        /// Authorities that the API server's certificate is verified against.
        patroni_kubernetes_cacert: Text, "kubernetes.cacert", "the service account's", Restart;
        /// Whether the API servers are asked at their own addresses, one after the other, instead of at that of the Service
        /// `kubernetes`. Needs the right to get the Endpoints `kubernetes` in the namespace `default`.
        patroni_kubernetes_bypass_api_service: Switch, "kubernetes.bypass_api_service", "off", Restart;
        /// HTTP codes that are retried, besides 500, 503 and 504.
        patroni_kubernetes_retriable_http_codes: List, "kubernetes.retriable_http_codes", "", Restart;
        /// The file that says where the API server is and who asks, outside of a pod; several with colons between them are laid
        /// over one another.
        kubeconfig: Text, "environment.kubeconfig", "~/.kube/config", Restart;
        /// Set by Kubernetes in each pod: the API server is asked with the pod's service account then, whatever kubeconfig
        /// there is, unless the pod has none.
        kubernetes_service_host: Text, "environment.kubernetes_service_host", "", Restart;
        /// Set by Kubernetes in each pod to the pod's name: the member's, where PATRONI_NAME is not set. Without effect where
        /// Kubernetes is not the store.
        hostname: Text, "environment.hostname", "the host name", Restart;
        /// The kubeconfig's context. Without effect inside of a pod.
        patroni_kubernetes_context: Text, "kubernetes.context", "the current one", Restart;
    }
}
