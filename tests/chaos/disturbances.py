"""What is done to a run, or to all that there are, by its name: each mends again what it did."""

from collections.abc import Mapping
from typing import Final

from chaos import upon_cluster, upon_network, upon_operator, upon_run, upon_store
from chaos.means import A_WHILE, Disturbance, for_a_while
from chaos.upon_network import while_asked, without_a_way

NOW: Final = ("--grace-period=0", "--force")
DISTURBANCES: Final[Mapping[str, Disturbance]] = {
    "the operator killed": upon_operator.kill,
    "a pod deleted": upon_run.delete_pod(),
    "a pod deleted without grace": upon_run.delete_pod(*NOW),
    "a pod deleted in the foreground": upon_run.delete_pod("--cascade=foreground"),
    "a pod evicted": upon_run.evict_pod(),
    "a finished pod deleted": upon_run.delete_pod(phases=upon_run.ENDED),
    "a finished pod evicted": upon_run.evict_pod(phases=upon_run.ENDED),
    "a Job deleted in the background": upon_run.delete_job("background"),
    "a Job deleted in the foreground": upon_run.delete_job("foreground"),
    "a Job deleted, its pods orphaned": upon_run.delete_job("orphan"),
    "a Job deleted and made again by hand": upon_run.job_again,
    "the Secret wrong for a while": upon_store.wrong_secret,
    "the Secret away for a while": upon_store.no_secret,
    "the Secret deleted in the foreground and given again at once": upon_store.secret_again,
    "the keys exchanged for others": upon_store.other_keys,
    "the keys lapsed for a while": upon_store.lapsed_keys,
    "the service account deleted": upon_run.delete_account,
    "deleted and applied again": upon_run.apply_again,
    "deleted in the foreground and applied again at once": upon_run.apply_again_at_once,
    "suspended and resumed": upon_run.suspend_and_resume,
    "edited and edited back": upon_run.edit_and_edit_back,
    "the scratch of a training full": upon_run.fill_scratch,
    "the kubelet killed": upon_cluster.killed("kubelet", seconds=2),
    "the kubelet silent for a while": upon_cluster.silent("kubelet"),
    "containerd killed": upon_cluster.killed("containerd"),
    "the API server killed": upon_cluster.killed("kube-apiserver", seconds=2),
    "the API server silent for a while": upon_cluster.silent("kube-apiserver"),
    "etcd killed": upon_cluster.killed("etcd"),
    "no DNS for a while": upon_cluster.killed("coredns", seconds=A_WHILE),
    "the store silent for a while": for_a_while(upon_store.silent),
    "the store killed, and back after a while": for_a_while(upon_store.killed),
    "the store killed, and back at once": upon_store.restarted,
    "the store full for a while": for_a_while(upon_store.full),
    "the clock of the store wrong for a while": upon_store.refusing(403, "RequestTimeTooSkewed"),
    "the session at the store expired for a while": upon_store.refusing(400, "ExpiredToken"),
    "no way to the store for a while": without_a_way(upon_network.to_store),
    "no way back from the store for a while": without_a_way(upon_network.from_store),
    "no way to the hub for a while": while_asked(upon_network.to_hub),
    "no way back from the hub for a while": while_asked(upon_network.from_hub),
    "the operator cut off for a while": without_a_way(upon_network.from_operator_to_apiserver),
    "no way back to the operator for a while": without_a_way(upon_network.from_apiserver_to_operator),
    "no way for progress for a while": without_a_way(upon_network.to_progress),
    "no answer to progress for a while": without_a_way(upon_network.from_progress),
    "the kubelet cut off for a while": without_a_way(upon_network.from_kubelet_to_apiserver),
    "no way back to the kubelet for a while": without_a_way(upon_network.from_apiserver_to_kubelet),
    "the operator's clock ahead for a while": upon_operator.with_clock("+2h"),
    "the operator's clock behind for a while": upon_operator.with_clock("-30m"),
    "the operator without rights for a while": upon_operator.without_rights,
    "the operator's account deleted for a while": upon_operator.without_account,
    "the node drained": upon_cluster.drain,
    "the node cordoned for a while": for_a_while(upon_cluster.cordoned),
    "the node lost for good": upon_cluster.lose_node,
}
