//! Where objects come from: the only files that know YAML files and the Kubernetes API.

pub mod kube_dns;
pub mod kubernetes;
pub mod manifests;
