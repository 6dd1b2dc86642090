//! Which pod has which address, and which addresses more than one claims.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use super::{facts::Pod, group::Group, object::ObjectName, problem::Fault};

/// How many others a pod is told of.
const NAMED: usize = 3;

/// The addresses of pods that are alive and have a network of their own.
#[derive(Default, Debug)]
pub(super) struct Claims {
    pods: HashMap<IpAddr, Group>,
    contested: BTreeSet<IpAddr>,
    changed: bool,
}

impl Claims {
    /// Takes a pod's addresses in.
    pub(super) fn add(&mut self, name: &ObjectName, pod: &Pod) {
        for address in addresses(pod) {
            let pods = self.pods.entry(address).or_default();
            let before = pods.len();
            pods.insert(name.clone());
            if pods.len() > before.max(1) {
                self.contested.insert(address);
                self.changed = true;
            }
        }
    }

    /// Takes them out again.
    pub(super) fn remove(&mut self, name: &ObjectName, pod: &Pod) {
        for address in addresses(pod) {
            let Some(pods) = self.pods.get_mut(&address) else {
                continue;
            };
            pods.remove(name);
            self.changed |= self.contested.contains(&address);
            if pods.len() < 2 {
                self.contested.remove(&address);
            }
            if pods.is_empty() {
                self.pods.remove(&address);
            }
        }
    }

    /// Whether what [`Claims::faults`] says may be something else than the last time this was asked.
    pub(super) const fn take_changed(&mut self) -> bool {
        std::mem::replace(&mut self.changed, false)
    }

    /// What is wrong with which pod: each one is told of some others.
    pub(super) fn faults(&self) -> BTreeMap<&ObjectName, Vec<Fault>> {
        let mut faults: BTreeMap<&ObjectName, Vec<Fault>> = BTreeMap::new();
        for address in &self.contested {
            let pods = self.pods.get(address).into_iter();
            let pods: Vec<&ObjectName> = pods.flat_map(Group::iter).collect();
            for name in &pods {
                let others = pods.iter().filter(|it| *it != name).take(NAMED);
                let mut others: Vec<String> = others.map(|it| format!("Pod {it}")).collect();
                let more = pods.len() - 1 - others.len();
                if more > 0 {
                    others.push(format!("{more} more"));
                }
                faults.entry(name).or_default().push(Fault {
                    field: "status.podIP".to_owned(),
                    value: address.to_string(),
                    message: format!(
                        "is the address of {} too: give each pod its own, or take away the one that is gone",
                        others.join(" and ")
                    ),
                });
            }
        }
        faults
    }
}

/// The addresses that a pod has to itself; none of a pod on its way out, whose successor may have them.
fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    pod.own_addresses().filter(|_| pod.deleted.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        cluster::Cluster,
        event::Event,
        objects_for_tests::{listing, pod, put, remove},
    };

    fn take(cluster: &mut Cluster, events: Vec<Event>) {
        for event in events {
            cluster.apply(event, &mut BTreeSet::new());
        }
    }

    #[test]
    fn two_pods_with_one_address_are_both_named() {
        let mut cluster = Cluster::default();
        let (one, two) = (pod("one", "a", "10.1.0.1"), pod("two", "b", "10.1.0.1"));
        let other = pod("other", "a", "10.1.0.2");
        take(&mut cluster, listing([one.clone(), two.clone(), other]));
        let shown = |cluster: &Cluster| -> Vec<String> {
            let all = cluster.problems().iter();
            all.map(|it| format!("{} {} {}", it.object, it.value, it.message))
                .collect()
        };
        let said = shown(&cluster);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("Pod default/one 10.1.0.1 is the address of Pod default/two too")
        );
        assert!(
            said[1].starts_with("Pod default/two 10.1.0.1 is the address of Pod default/one too")
        );
        // What the source says stands beside it.
        take(&mut cluster, vec![Event::Problems(Vec::new())]);
        assert_eq!(shown(&cluster), said);
        take(&mut cluster, vec![remove(&two)]);
        assert_eq!(shown(&cluster), [""; 0]);
        take(&mut cluster, vec![put(two)]);
        assert_eq!(shown(&cluster), said);
        take(&mut cluster, vec![put(pod("one", "a", "10.1.0.3"))]);
        assert_eq!(shown(&cluster), [""; 0]);
    }

    #[test]
    fn of_many_pods_with_one_address_each_is_told_of_a_few() {
        let mut cluster = Cluster::default();
        let pods = (10..30).map(|number| pod(&format!("pod-{number}"), "a", "10.1.0.1"));
        take(&mut cluster, listing(pods));
        let problems = cluster.problems();
        assert_eq!(problems.len(), 20);
        for problem in problems {
            let message = &problem.message;
            assert_eq!(message.matches("Pod ").count(), 3, "{message}");
            assert!(message.contains(" and 16 more too: "), "{message}");
            assert!(!message.contains(&problem.object), "{message}");
        }
    }
}
