"""The four providers' APIs played on loopback, so that everything can be tried without keys or network.

One port plays them all, each below its own name, with the paths its documentation gives. With the simulator
at ``http://127.0.0.1:PORT``:

``…/vidgo``   (``VIDGO_BASE_URL``)   ``POST /api/generate/submit``, ``GET /api/generate/status/ID``
``…/apidot``  (``APIDOT_BASE_URL``)  the same paths
``…/apixo``   (``APIXO_BASE_URL``)   ``POST /api/v1/generateTask/MODEL``, ``GET /api/v1/statusTask/MODEL``
``…/reapi``   (``REAPI_BASE_URL``)   ``POST /api/v1/images/generations``, ``GET /api/v1/tasks/ID``

Results are real PNG, JPEG and WebP images at ``/media/PROVIDER/TASK/INDEX.EXT``; each is drawn from its
task id, so the same task always has the same bytes. ``GET /truth`` tells what really happened: a list with
one object per task (its end, its files with size and SHA-256, every callback attempt and the answer it got).

A submission decides its own fate by an object ``simulate`` at the top of its body; all fields are optional:

``outcome``             ``"completed"`` (the default) or ``"failed"``
``error``               the message of a failure; by default one that the provider documents
``error_code``          its code, for the providers that have one (APIXO text, reAPI a number)
``duplicate``           how many times the callback is sent in all, at once; 1 by default
``delay_seconds``       from submission to end, instead of the simulator's ``task_seconds``
``drop_callback``       true: the callback is never sent
``call_before_answer``  true: the task ends at once, and its callback is sent before the submit answer

The real rules are kept where they are known, with two exceptions: callback URLs may be ``http`` and must be
on loopback, because the simulator calls nobody else; and only image tasks are played.
"""

from receiver.simulator.app import create_simulator
from receiver.simulator.plot import SimulatorOptions
from receiver.simulator.serving import serve_simulator

__all__ = ["SimulatorOptions", "create_simulator", "serve_simulator"]
