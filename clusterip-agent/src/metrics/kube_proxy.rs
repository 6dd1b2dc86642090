//! Under kube-proxy's name: services that a Local policy leaves without an endpoint here.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use tokio::sync::watch;

use crate::{
    model::service::{Action, Balancer, ResolvedService},
    reconcile::Published,
};

/// By policy.
#[derive(Debug)]
pub(super) struct NoLocalEndpoints {
    pub(super) published: watch::Receiver<Published>,
}

impl Collector for NoLocalEndpoints {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.published.borrow().snapshot.clone();
        let dropping = |of: fn(&ResolvedService) -> &[Balancer]| {
            let services = snapshot.services.values();
            let drops = |it: &Balancer| it.action == Action::Drop;
            let found = services.filter(|service| of(service).iter().any(drops));
            i64::try_from(found.count()).unwrap_or(i64::MAX)
        };
        let (internal, external) = (
            dropping(|service| &service.balancers),
            dropping(|service| &service.external),
        );
        let help = "Services that a Local policy leaves without an endpoint on this node";
        let name = "sync_proxy_rules_no_local_endpoints_total";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (policy, services) in [("internal", internal), ("external", external)] {
            metric
                .encode_family(&[("traffic_policy", policy)])?
                .encode_gauge(&services)?;
        }
        Ok(())
    }
}
