"""Ten providers' APIs played on loopback, so that everything can be tried without keys or network.

Each provider is at the root of a port of its own, as its clients expect it, and all of them below their
names at one more (``http://127.0.0.1:PORT/vidgo``), with the paths that their documentation gives:

Vidgo, APIDot  ``POST /api/generate/submit``, ``GET /api/generate/status/ID``,
               music ``GET /api/generate/detail/music?task_id=ID``, ``GET /api/user/balance``;
               Vidgo also ``POST /api/common/upload/stream``, ``/base64`` and ``/url``
APIXO          ``POST /api/v1/generateTask/MODEL``, ``GET /api/v1/statusTask/MODEL?taskId=ID``,
               ``GET /api/v1/apikeys/current-balance``
reAPI          ``POST /api/v1/images/generations``, ``/videos/generations`` and ``/audio/generations``,
               ``GET /api/v1/tasks/ID``, ``GET /api/v1/balance``
Replicate      ``POST /v1/predictions``, ``GET /v1/predictions/ID``
WaveSpeed      ``POST /api/v3/MODEL?webhook=URL``, ``GET /api/v3/predictions/ID/result``,
               ``GET /api/v3/balance``
kie.ai         ``POST /api/v1/jobs/createTask``, ``GET /api/v1/jobs/recordInfo?taskId=ID``,
               ``GET /api/v1/chat/credit``
Black Forest   ``POST /v1/MODEL``, ``GET /v1/get_result?id=ID``, ``GET /v1/credits``
Labs
PiAPI          ``POST /api/v1/task``, ``GET /api/v1/task/ID``, ``GET /account/info``
fal            ``POST /MODEL?fal_webhook=URL``, ``GET /OWNER/APP/requests/ID/status`` and, for the results,
               without ``/status``; ``GET /.well-known/jwks.json``

The last six sign each callback as they document it: Replicate, WaveSpeed and kie.ai with their account's
secret (``SECRETS``), the next two with the one that an order brings; without one they sign nothing. fal signs
by a private key (Ed25519), whose public one is in its key set.

``GET /`` of the port that they share lists them all. Anything else is answered 404 or 405 in the
provider's own form.

Results are real PNG, JPEG and WebP images (``output_format`` is obeyed), and sounds and films of a few
seconds for the models that make them, at ``/media/PROVIDER/TASK/INDEX.EXT``; each is made from its task id,
so the same task always has the same bytes. ``GET /truth`` tells what really happened: a list with one
object per task (its end, its error, what it cost, its files with size and SHA-256, its fate as
``simulate``, every callback attempt and the answer it got).

``Faults`` among the options decide for the whole run. Shares are of tasks, from 0 to 1:

``drop``          share whose callback is never sent
``duplicate``     share whose callback is sent two or three times: some at once, some after the provider's
                  first retry wait
``delay``         callbacks come up to so many seconds after the end, each by another wait, so that their
                  order mixes; status answers tell the end meanwhile
``reorder``       share whose callback waits until one of a later submission has overtaken it (two seconds at
                  most), and is followed by one that says the task is still running. Nobody documents
                  callbacks of progress: this is a fault of ours, harder than what is known
``fail``          share that fails, with an error that the provider documents
``forge``         share for which, half-way to the end, a forged callback comes to the right URL: right task,
                  finished, files below ``/forged/``. Whoever fetches them gets an image, and is counted in
                  the task's ``forged_fetches``
``dead_links``    share whose callback's links are dead on arrival
``error_in_200``  share whose first status question is answered with HTTP 200 and an error in the body, as a
                  client of APIDot's sister has seen it
``bad_signatures``  share whose callback is signed with a wrong secret, each time it is sent, where its
                  provider signs; a forged callback never has a signature
``dying_links``   links live so many seconds, then answer 403; each status answer has fresh ones, at the same
                  path with a new query. A callback's are as old as the end
``rate_limit``    status questions a minute that each provider answers, a tenth of them at once; the others
                  get 429 with ``Retry-After``
``seed``          which tasks the shares hit, by their number in the run

A submission decides its own fate, whatever the run's, by an object ``simulate`` at the top of its body; all
fields are optional:

``outcome``             ``"completed"`` or ``"failed"``
``error``               the message of a failure; by default one that the provider documents
``error_code``          its code, for the providers that have one (APIXO text, reAPI a number)
``duplicate``           how many times the callback is sent in all, at once
``delay_seconds``       from submission to end, instead of the simulator's ``task_seconds``
``late_seconds``        from end to callback, instead of a part of ``delay``
``drop_callback``       true: the callback is never sent
``reorder``             as above, true or false; as are ``forge``, ``dead_links``, ``error_in_200`` and
                        ``bad_signature``
``forge_url``           where the forged callback is sent in place of the submission's own URL; asks for one
``refuse``              400, 402, 429, 500 or 503: it is refused with this status, in the provider's words;
                        with ``error_in_200`` the status is in the body alone
``call_before_answer``  true: the task ends at once, and its callback is sent before the submit answer
``answer``              what comes in place of the answer, though the submission is taken and paid for:
                        ``lose_answer`` (the connection is closed), ``cut_answer`` (half of it), ``html_502``,
                        ``answer_without_id``, ``redirect``, ``status_408`` or ``status_500``
``late_answer``         seconds until the answer is sent
``same_id_again``       true: it is taken for the order before it, gets its id, and is not billed

Each account, which is a key at a provider, begins with so many ``credits``; what a submission costs is taken
from it, and given back if it fails (APIDot takes it at the end). Beyond them submissions get 402, and beyond
``submit_rate_limit`` a minute 429. Everything is refused with 401 for a key that is not among ``keys``, and
status questions with 402 by the providers that are ``out_of_credit``, which is a fault of ours too.

Orders of gpt-image-2 at the first four are refused with 400 where the provider's page says so, and billed as
it says: ``/truth`` has ``billed_micros``, in millionths of a US dollar, for each task. Other models cost the
same for each file.

Programs are answered, pages are not: a request with an ``Origin``, or by a ``Host`` that is no name or
address of loopback, is refused with 403 at every port.

The real rules are kept where they are known, with two exceptions: callback URLs may be ``http`` and must be
on loopback, because the simulator calls nobody else; and an upload by URL fetches nothing.
"""

from receiver.simulator.app import create_simulator
from receiver.simulator.faults import Faults
from receiver.simulator.model import SimulatorOptions
from receiver.simulator.server import Addresses, serve_providers, serve_simulator
from receiver.simulator.signing import SECRETS

__all__ = [
    "SECRETS",
    "Addresses",
    "Faults",
    "SimulatorOptions",
    "create_simulator",
    "serve_providers",
    "serve_simulator",
]
