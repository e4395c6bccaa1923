"""What happens to the store of all runs, and to the keys of one."""

import time
from contextlib import AbstractContextManager

from chaos.hands import Hands
from chaos.means import A_WHILE, ONE_AT_A_TIME, Disturbance, for_a_while


def killed(hands: Hands) -> AbstractContextManager[None]:
    return hands.depot.away()


def restarted(hands: Hands) -> None:
    with ONE_AT_A_TIME, hands.depot.away():
        pass


def silent(hands: Hands) -> AbstractContextManager[None]:
    return hands.depot.silent()


def full(hands: Hands) -> AbstractContextManager[None]:
    return hands.depot.full()


def refusing(status: int, code: str) -> Disturbance:
    """It refuses all that it is asked for, as S3 does for this reason."""
    return for_a_while(lambda hands: hands.depot.refusing(status, code))


def wrong_secret(hands: Hands) -> None:
    hands.give_secret(AWS_SECRET_ACCESS_KEY="wrong")
    time.sleep(A_WHILE)
    hands.give_secret()


def no_secret(hands: Hands) -> None:
    hands.kubectl("delete", "secret", "s3")
    time.sleep(A_WHILE)
    hands.give_secret()


def secret_again(hands: Hands) -> None:
    """Deleted in the foreground, and there again at once under the same name."""
    hands.replace("secret", "s3", hands.give_secret)


def other_keys(hands: Hands) -> None:
    """The Secret has new ones, and the store does not know the old ones any more."""
    before = hands.keys
    hands.renew_keys()
    hands.forget(before)


def lapsed_keys(hands: Hands) -> None:
    """The store forgets the keys that pods and the Secret have, and after a while the Secret has new ones."""
    hands.forget(hands.keys)
    time.sleep(A_WHILE)
    hands.renew_keys()
