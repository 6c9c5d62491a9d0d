"""The whole database, opened by its URL."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import select

from orchestrator.domain.errors import StoreError
from orchestrator.store import migrations
from orchestrator.store.actions import SqlActions
from orchestrator.store.approvals import SqlApprovals
from orchestrator.store.attempts import SqlAttempts
from orchestrator.store.baselines import SqlBaselines
from orchestrator.store.comments import SqlReportComments
from orchestrator.store.deliveries import SqlDeliveries
from orchestrator.store.deployments import SqlDeployments
from orchestrator.store.detection import SqlDetection
from orchestrator.store.engine import Database, exists, make_room, parse_url
from orchestrator.store.findings import SqlFindings
from orchestrator.store.hosts import SqlHosts
from orchestrator.store.journal import SqlJournal
from orchestrator.store.models import SqlModels
from orchestrator.store.occasions import SqlOccasions
from orchestrator.store.queue import SqlQueue
from orchestrator.store.retention import SqlRetention
from orchestrator.store.runs import SqlRuns
from orchestrator.store.secrets import SqlSecrets
from orchestrator.store.servers import SqlServers
from orchestrator.store.statuses import SqlStatuses
from orchestrator.store.tables import LOST_ATTEMPTS, MetaRow, lost_ranges
from orchestrator.store.transitions import Tokens, inserted
from orchestrator.store.upkeep import SqlUpkeep
from orchestrator.store.watches import SqlWatches


def new_token() -> str:
    """32 random hexadecimal digits."""
    return uuid4().hex


class SqlStore:
    """Implements ``ports.store.Store`` on a database whose tables are those of this version."""

    def __init__(self, database: Database, tokens: Tokens = new_token) -> None:
        self._database = database
        self._detection = SqlDetection(database)
        self._runs = SqlRuns(database, tokens)
        self._attempts = SqlAttempts(database, tokens)
        self._baselines = SqlBaselines(database)
        self._actions = SqlActions(database, tokens)
        self._deployments = SqlDeployments(database)
        self._models = SqlModels(database)
        self._findings = SqlFindings(database)
        self._servers = SqlServers(database)
        self._hosts = SqlHosts(database)
        self._queue = SqlQueue(database)
        self._secrets = SqlSecrets(database)
        self._deliveries = SqlDeliveries(database)
        self._statuses = SqlStatuses(database)
        self._comments = SqlReportComments(database)
        self._approvals = SqlApprovals(database)
        self._journal = SqlJournal(database)
        self._retention = SqlRetention(database)
        self._upkeep = SqlUpkeep(database)
        self._watches = SqlWatches(database)
        self._occasions = SqlOccasions(database)
        self._instance = _instance(database, tokens)

    @property
    def instance(self) -> str:
        return self._instance

    @property
    def detection(self) -> SqlDetection:
        return self._detection

    @property
    def runs(self) -> SqlRuns:
        return self._runs

    @property
    def attempts(self) -> SqlAttempts:
        return self._attempts

    @property
    def baselines(self) -> SqlBaselines:
        return self._baselines

    @property
    def actions(self) -> SqlActions:
        return self._actions

    @property
    def deployments(self) -> SqlDeployments:
        return self._deployments

    @property
    def models(self) -> SqlModels:
        return self._models

    @property
    def findings(self) -> SqlFindings:
        return self._findings

    @property
    def servers(self) -> SqlServers:
        return self._servers

    @property
    def hosts(self) -> SqlHosts:
        return self._hosts

    @property
    def queue(self) -> SqlQueue:
        return self._queue

    @property
    def secrets(self) -> SqlSecrets:
        return self._secrets

    @property
    def deliveries(self) -> SqlDeliveries:
        return self._deliveries

    @property
    def statuses(self) -> SqlStatuses:
        return self._statuses

    @property
    def comments(self) -> SqlReportComments:
        return self._comments

    @property
    def approvals(self) -> SqlApprovals:
        return self._approvals

    @property
    def journal(self) -> SqlJournal:
        return self._journal

    @property
    def retention(self) -> SqlRetention:
        return self._retention

    @property
    def upkeep(self) -> SqlUpkeep:
        return self._upkeep

    @property
    def watches(self) -> SqlWatches:
        return self._watches

    @property
    def occasions(self) -> SqlOccasions:
        return self._occasions

    def database_version(self) -> str:
        """Which database this is, as ``SQLite 3.40.1`` or ``PostgreSQL 15.20``."""
        return self._database.version()

    def database_size(self) -> int:
        """Bytes that the database occupies."""
        return self._database.size()

    def was_lost(self, attempt_id: int) -> bool:
        with self._database.reading() as session:
            told = session.scalar(select(MetaRow.value).where(MetaRow.name == LOST_ATTEMPTS))
        return any(attempt_id in ids for ids in lost_ranges(told))

    def close(self) -> None:
        """Free connections."""
        self._database.close()


def open_store(url: str, *, create: bool = True, tokens: Tokens = new_token) -> SqlStore:
    """Open a database. With ``create`` an empty one gets its tables; one of another version is never changed.

    ``tokens`` makes the tokens of leases. Raises InvalidInput when the URL is none of ours, StoreUnavailable
    when the database does not answer, StoreError when it is empty (without ``create``) or of another version.
    """
    parsed = parse_url(url)
    if create:
        make_room(parsed)
    elif not exists(parsed):
        raise StoreError(
            f"there is no database {parsed.database}", "start the server once, or correct the path"
        )
    found = migrations.current(url)
    if found is None and create:
        migrations.upgrade(url)
    elif found is None:
        raise StoreError("the database is empty", "run `orchestrator db upgrade`")
    elif found != migrations.HEAD:
        raise StoreError(
            f"the database is at revision {found}, this version needs {migrations.HEAD}",
            "make a backup and run `orchestrator db upgrade`, or install the version that fits",
        )
    return SqlStore(Database(parsed), tokens)


def _instance(database: Database, tokens: Tokens) -> str:
    """This database's id, made when it is opened for the first time, whoever is first."""
    wanted = select(MetaRow.value).where(MetaRow.name == "instance")
    with database.reading() as session:
        known = session.scalar(wanted)
    if known is not None:
        return known
    with database.writing() as session:
        inserted(session, MetaRow(name="instance", value=tokens()))
        return session.scalars(wanted).one()
