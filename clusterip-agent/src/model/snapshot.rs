//! What every reader sees.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::{
    inside, object::ObjectName, problem::Problem, resolve::NodeInfo, service::ResolvedService,
};

/// The resolved cluster, as it was at one moment. Cloning costs nothing, whatever its size.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// The node this is for.
    pub node: NodeInfo,
    /// What counts as inside the cluster.
    pub inside: Arc<inside::Ranges>,
    /// Every service, those without an entry in the dataplane too.
    pub services: RedBlackTreeMapSync<ObjectName, Arc<ResolvedService>>,
    /// What the source found wrong.
    pub source_problems: Arc<[Problem]>,
    /// What is wrong with services, those that do not fit included.
    pub service_problems: RedBlackTreeMapSync<ObjectName, Arc<[Problem]>>,
}

impl Snapshot {
    /// All that is wrong, by file and place.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut all: Vec<Problem> = self
            .source_problems
            .iter()
            .chain(self.service_problems.values().flat_map(|some| some.iter()))
            .cloned()
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether two are the same without a look at every service: one is a clone of the other, unchanged since.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self {
            node,
            inside,
            services,
            source_problems,
            service_problems,
        } = self;
        *node == other.node
            && Arc::ptr_eq(inside, &other.inside)
            && services.ptr_eq(&other.services)
            && Arc::ptr_eq(source_problems, &other.source_problems)
            && service_problems.ptr_eq(&other.service_problems)
    }

    pub(crate) fn set_problems(&mut self, name: &ObjectName, problems: Vec<Problem>) {
        if problems.is_empty() {
            if self.service_problems.contains_key(name) {
                self.service_problems.remove_mut(name);
            }
        } else {
            self.service_problems
                .insert_mut(name.clone(), problems.into());
        }
    }
}
