"""The mutants' labels are checked against the protocol, which alone decides what a message is."""

from rosfit.protocol import envelope, topics
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.payloads import AlertPayload, LogPayload, StatusPayload, decode_payload
from tests.load.mutate import LARGE_MAKERS, MAKERS, Mutant, mutants

SHAPES = {topics.Kind.STATUS: StatusPayload, topics.Kind.LOG: LogPayload, topics.Kind.ALERT: AlertPayload}


def reason_of(mutant: Mutant) -> str | None:
    try:
        route = topics.parse_topic(mutant.topic("d1"))
        if route.kind is topics.Kind.BLOB:
            return None
        message = envelope.decode(mutant.payload, mutant.properties.get("content_type"), envelope.Limits())
        if message.device_id not in {None, "d1"}:
            return "device_mismatch"
        if shape := SHAPES.get(route.kind):
            decode_payload(message.payload, shape)
    except BadMessageError as error:
        return error.reason
    return None


def test_every_certain_label_is_true():
    """Good mutants are taken, bad ones refused for one of the reasons named; nothing raises anything else."""
    for mutant in mutants(seed=3, count=2000):
        reason = reason_of(mutant)
        if mutant.certain and mutant.reasons is None:
            assert reason is None, mutant
        elif mutant.certain:
            assert reason in mutant.reasons, mutant


def test_same_seed_same_mutants_and_every_kind():
    once, again = list(mutants(7, 600)), list(mutants(7, 600))
    assert once == again
    assert once != list(mutants(8, 600))
    assert len({mutant.kind for mutant in once}) >= len(MAKERS) + len(LARGE_MAKERS)
