"""What the schema of a request cannot express: expiries are in the future, and attempts for one app are limited."""

import os
import re
import unicodedata
import uuid
from collections import Counter
from datetime import datetime, timedelta, timezone

import requests
import schemathesis
from hypothesis import strategies

GUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TOMORROW = datetime.now(timezone.utc).replace(tzinfo=None, microsecond=0) + timedelta(days=1)
ADDRESS = os.environ["CONTRACT_ADDRESS"] + "/rest/v2/mailboxes/microsoft/credentials"

# How often the app of a credential may be tried, including the POST that created it.
TRIES = 7
tried = Counter()

schemathesis.openapi.format(
    "date-time",
    strategies.datetimes(min_value=TOMORROW, max_value=datetime(9998, 12, 31)).map(lambda at: at.isoformat() + "Z"),
)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Another app for each request, because Microsoft, and so the server, limits attempts for one app."""
    if not isinstance(case.body, dict):
        return
    client = case.body.get("client_id")
    if isinstance(client, str) and GUID.fullmatch(client):
        case.body["client_id"] = str(uuid.uuid4())
    if case.method.upper() == "PATCH" and "client_secret" in case.body:
        credential = str(case.path_parameters.get("credential_id"))
        tried[credential] += 1
        if tried[credential] >= TRIES:
            case.path_parameters["credential_id"] = stand_in(credential) or case.path_parameters["credential_id"]


def stand_in(credential):
    """Another credential in place of one whose app has no attempts left; none if it does not exist."""
    headers = {"x-api-key": os.environ["CONTRACT_KEY"]}
    listed = requests.get(ADDRESS, headers=headers, timeout=60).json()["credentials"]
    if credential not in {str(it["credential_id"]) for it in listed}:
        return None
    fresh = {
        "tenant_id": str(uuid.uuid4()),
        "client_id": str(uuid.uuid4()),
        "client_secret": "stand-in",
        "secret_expires_at": TOMORROW.isoformat() + "Z",
    }
    return requests.post(ADDRESS, json=fresh, headers=headers, timeout=60).json()["credential_id"]


if os.environ.get("CONTRACT_SANDBOX"):
    # A strict sandbox rejects headers that it does not know.
    send = requests.Session.send

    def send_without_own_header(session, request, **options):
        request.headers.pop("X-Schemathesis-TestCaseId", None)
        return send(session, request, **options)

    requests.Session.send = send_without_own_header

    COMPANIES = ["20000001", "20000002"]
    NUMBER = re.compile("[1-9][0-9]*")

    def existing(company):
        """A company that exists, because the schema cannot say which ones do."""
        return COMPANIES[len(str(company)) % len(COMPANIES)]

    @schemathesis.hook("before_call")
    def name_a_company(context, case, kwargs):
        """Companies that exist, in the header only where others than the agency are let in."""
        headers, path = case.headers or {}, case.path_parameters or {}
        company = str(headers.get("x-company-id"))
        if NUMBER.fullmatch(company):
            if "/agency/" in case.path:
                del headers["x-company-id"]
            else:
                headers["x-company-id"] = existing(company)
        company = str(path.get("company_id"))
        # Even numbers stay, so that unknown companies are tested too.
        if NUMBER.fullmatch(company) and int(company) % 2 == 1:
            path["company_id"] = existing(company)

    @schemathesis.hook("before_call")
    def expire_later(context, case, kwargs):
        """Times of the request log are valid, and past when they are sent."""
        if isinstance(case.body, dict) and past(case.body.get("secret_expires_at")):
            case.body["secret_expires_at"] = TOMORROW.isoformat() + "Z"

    def past(expiry):
        try:
            return datetime.fromisoformat(expiry.removesuffix("Z")[:26]) < TOMORROW
        except (AttributeError, ValueError):
            return False

    ANSWERS = ["in-use", "slow-saved", "closed"]
    DURATIONS = ["P30D", "-P1D", "PT12H"]

    @schemathesis.hook("before_call")
    def name_what_exists(context, case, kwargs):
        """Answers that exist, durations, and a time or a duration; every second text stays as it is."""
        body = case.body
        if not isinstance(body, dict):
            return
        for field, known in (("answer", ANSWERS), ("advance", DURATIONS)):
            text = body.get(field)
            if isinstance(text, str) and len(text) % 2 == 0:
                body[field] = known[len(text) // 2 % len(known)]
        if isinstance(body.get("now"), str) and isinstance(body.get("advance"), str):
            del body["advance"]

    @schemathesis.hook("before_call")
    def show_each_character(context, case, kwargs):
        """Secrets of a seed have no invisible characters, because a pattern would need all of Unicode's."""
        seed = case.body.get("credentials") if isinstance(case.body, dict) else None
        for credential in seed if isinstance(seed, list) else []:
            if isinstance(credential, dict) and isinstance(credential.get("client_secret"), str):
                credential["client_secret"] = "".join(map(visible, credential["client_secret"]))

    def visible(character):
        return "x" if unicodedata.category(character) in ("Cf", "Zl", "Zp") else character
