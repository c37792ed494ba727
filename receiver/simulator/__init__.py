"""The four providers' APIs played on loopback, so that everything can be tried without keys or network.

One port plays them all, each below its own name, with the paths its documentation gives. With the simulator
at ``http://127.0.0.1:PORT``:

``…/vidgo``   (``VIDGO_BASE_URL``)   ``POST /api/generate/submit``, ``GET /api/generate/status/ID``
``…/apidot``  (``APIDOT_BASE_URL``)  the same paths
``…/apixo``   (``APIXO_BASE_URL``)   ``POST /api/v1/generateTask/MODEL``, ``GET /api/v1/statusTask/MODEL``
``…/reapi``   (``REAPI_BASE_URL``)   ``POST /api/v1/images/generations``, ``GET /api/v1/tasks/ID``

Results are real PNG, JPEG and WebP images at ``/media/PROVIDER/TASK/INDEX.EXT``; each is drawn from its
task id, so the same task always has the same bytes. ``GET /truth`` tells what really happened: a list with
one object per task (its end, its error, its files with size and SHA-256, its fate as ``simulate``, every
callback attempt and the answer it got).

``Faults`` among the options decide for the whole run. Shares are of tasks, from 0 to 1:

``drop``         share whose callback is never sent
``duplicate``    share whose callback is sent two or three times: some at once, some after the provider's
                 first retry wait
``delay``        callbacks come up to so many seconds after the end, each by another wait, so that their order
                 mixes; status answers tell the end meanwhile
``reorder``      share whose callback waits until one of a later submission has overtaken it (two seconds at
                 most), and is followed by one that says the task is still running
``fail``         share that fails, with an error that the provider documents
``forge``        share for which, half-way to the end, a forged callback comes to the right URL: right task,
                 finished, files below ``/forged/``. Whoever fetches them gets an image, and is counted in the
                 task's ``forged_fetches``
``dead_links``   share whose callback's links are dead on arrival
``dying_links``  links live so many seconds, then answer 403; each status answer has fresh ones, at the same
                 path with a new query. A callback's are as old as the end
``rate_limit``   status questions a minute that each provider answers, a tenth of them at once; the others get
                 429 with ``Retry-After``
``seed``         which tasks the shares hit, by their number in the run

A submission decides its own fate, whatever the run's, by an object ``simulate`` at the top of its body; all
fields are optional:

``outcome``             ``"completed"`` or ``"failed"``
``error``               the message of a failure; by default one that the provider documents
``error_code``          its code, for the providers that have one (APIXO text, reAPI a number)
``duplicate``           how many times the callback is sent in all, at once
``delay_seconds``       from submission to end, instead of the simulator's ``task_seconds``
``late_seconds``        from end to callback, instead of a part of ``delay``
``drop_callback``       true: the callback is never sent
``reorder``             as above, true or false; as are ``forge`` and ``dead_links``
``call_before_answer``  true: the task ends at once, and its callback is sent before the submit answer

Status questions are refused with 401 for a wrong key (``keys``), and with 402 by the providers that are
``out_of_credit``.

The real rules are kept where they are known, with two exceptions: callback URLs may be ``http`` and must be
on loopback, because the simulator calls nobody else; and only image tasks are played.
"""

from receiver.simulator.app import create_simulator
from receiver.simulator.faults import Faults
from receiver.simulator.plot import SimulatorOptions
from receiver.simulator.serving import serve_simulator

__all__ = ["Faults", "SimulatorOptions", "create_simulator", "serve_simulator"]
