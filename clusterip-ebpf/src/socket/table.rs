//! The kernel's body of `packet::socket::SocketTable`.

use aya_ebpf::bindings::BPF_ANY;
use clusterip_common::{
    abi::{SocketFlow, SocketKey},
    packet::{FlowError, socket::SocketTable},
};

use crate::{env::KernelEnv, maps::SOCKETS};

impl SocketTable for KernelEnv {
    #[inline(always)]
    fn socket_flow(&self, key: &SocketKey) -> Option<SocketFlow> {
        // SAFETY: the value is copied at once; entries are replaced as a whole.
        unsafe { SOCKETS.get(key) }.copied()
    }

    #[inline(always)]
    fn put_socket_flow(&self, key: &SocketKey, flow: &SocketFlow) -> Result<(), FlowError> {
        SOCKETS
            .insert(key, flow, u64::from(BPF_ANY))
            .map_err(|_code| FlowError::Full)
    }

    #[inline(always)]
    fn remove_socket_flow(&self, key: &SocketKey) {
        // Not being there is as good.
        let _result = SOCKETS.remove(key);
    }
}
