"""Loading a folder: the models that come out, and each problem with place, expectation and suggestion."""

# ruff: noqa: E501 - a message in one piece is easier to compare than one in pieces

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from orchestrator.config.load import load
from orchestrator.config.models.dataset import FolderDataset
from orchestrator.config.models.runner import BuiltImage, RepositoryImage
from orchestrator.domain.baseline import Selector, SelectorKind
from orchestrator.domain.check import Claim, Comparison, Margin, Operator, Threshold
from tests.support.configuration import ENVIRON, HOST_KEY, ConfigFolder


def test_a_valid_folder_gives_models_and_no_problem(folder: ConfigFolder) -> None:
    result = folder.load()
    assert result.problems == ()
    assert result.configuration is not None
    assert set(result.configuration.runners) == {"cpu"}
    assert set(result.configuration.pipelines) == {"wine"}
    assert result.configuration.base == folder.path
    assert result.configuration.files["wine"] == folder.path / "pipelines" / "wine.yaml"


def test_quantities_are_converted(folder: ConfigFolder) -> None:
    folder.write(
        "runners/cpu.yaml", "runner: cpu\nimage: x\nresources: {memory: 1.5g, shm_size: 512m, cpus: 2}\n"
    )
    folder.write(
        "pipelines/wine.yaml",
        """
        pipeline: wine
        source: {git: https://example.org/wine.git, poll: 1m30s}
        run: {runner: cpu, command: [python, train.py], timeout: 2h, log_limit: 10MB}
        """,
    )
    configuration = folder.load().configuration
    assert configuration is not None
    resources = configuration.runners["cpu"].resources
    assert (resources.memory, resources.shm_size, resources.cpus) == (3 << 29, 512 << 20, 2.0)
    pipeline = configuration.pipelines["wine"]
    assert pipeline.all_sources[0].poll == timedelta(seconds=90)
    assert pipeline.run.timeout == timedelta(hours=2)
    assert pipeline.run.log_limit == 10_000_000
    assert pipeline.run.argv == ("python", "train.py")


def test_a_command_in_text_is_for_the_shell(folder: ConfigFolder) -> None:
    configuration = folder.load().configuration
    assert configuration is not None
    assert configuration.pipelines["wine"].run.argv == ("sh", "-c", "python train.py")


def test_relative_paths_count_from_the_configuration_folder(
    folder: ConfigFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.root / "data").mkdir()
    (folder.root / "repository" / ".git").mkdir(parents=True)
    folder.write(
        "pipelines/wine.yaml",
        """
        pipeline: wine
        source: {git: ../repository}
        datasets: {wine: {path: ../data}}
        run: {runner: cpu, command: x}
        """,
    )
    monkeypatch.chdir(folder.root)
    result = load(Path("config"), environ=ENVIRON)
    assert [str(problem) for problem in result.problems] == []
    assert result.configuration is not None
    pipeline = result.configuration.pipelines["wine"]
    (wine,) = pipeline.datasets.values()
    assert isinstance(wine, FolderDataset)
    assert wine.path == folder.root / "data"
    assert pipeline.all_sources[0].git == str(folder.root / "repository")
    assert pipeline.all_sources[0].title == "repository"
    assert result.configuration.orchestrator.storage.path == folder.root / "var"


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("python:3.12-slim", "python:3.12-slim"),
        ("{dockerfile: docker/Dockerfile}", RepositoryImage(dockerfile="docker/Dockerfile")),
    ],
)
def test_an_image_is_named_or_made_from_the_repository(
    folder: ConfigFolder, written: str, image: str | RepositoryImage
) -> None:
    folder.write("runners/cpu.yaml", f"runner: cpu\nimage: {written}\n")
    configuration = folder.load().configuration
    assert configuration is not None
    assert configuration.runners["cpu"].image == image


def test_an_image_is_built_from_a_folder(folder: ConfigFolder) -> None:
    (folder.path / "image").mkdir()
    folder.write("runners/cpu.yaml", "runner: cpu\nimage: {build: image}\n")
    configuration = folder.load().configuration
    assert configuration is not None
    image = configuration.runners["cpu"].image
    assert isinstance(image, BuiltImage)
    assert image.build == folder.path / "image"


def test_checks_in_both_forms_mean_the_same_to_the_domain(folder: ConfigFolder) -> None:
    assert (
        folder.problems_with(
            """\
            metrics: {size: {direction: lower}}
            gate:
              checks:
                - accuracy >= 0
                - {metric: accuracy, threshold: 0}
                - {metric: size, threshold: 3}
                - accuracy not worse than best by 0.5pp
                - {metric: accuracy, vs: best, margin: 0.5pp}
                - {metric: size, vs: "branch:main", claim: superior, margin: 2%}
            """
        )
        == []
    )
    configuration = folder.load().configuration
    assert configuration is not None
    zero = Threshold("accuracy", Operator.AT_LEAST, 0.0)
    best = Comparison(
        "accuracy", Selector(SelectorKind.BEST), Claim.NO_REGRESSION, Margin(0.005, points=True)
    )
    assert configuration.pipelines["wine"].judged_by().checks == (
        zero,
        zero,
        Threshold("size", Operator.AT_MOST, 3.0),
        best,
        best,
        Comparison(
            "size", Selector(SelectorKind.BRANCH, "main"), Claim.SUPERIOR, Margin(0.02, relative=True)
        ),
    )


def test_actions_keep_their_order_under_the_names_of_the_file(folder: ConfigFolder) -> None:
    problems = folder.problems_with(
        """\
        artifacts: ["model.*"]
        actions:
          pass:
            - deploy: {server: prod}
            - email: {to: [author, "Team <team@example.org>"]}
          error: [email: {to: [author]}]
        """
    )
    assert problems == []
    configuration = folder.load().configuration
    assert configuration is not None
    actions = configuration.pipelines["wine"].actions.by_trigger()
    assert [type(action).__name__ for action in actions["pass"]] == ["DeployAction", "EmailAction"]
    assert actions["fail"] == ()


def test_extension_keys_are_ignored_and_carry_anchors(folder: ConfigFolder) -> None:
    problems = folder.problems_of_pipeline(
        """\
        x-mail: &mail {email: {to: [team@example.org], x-note: hello}}
        pipeline: wine
        source: {git: https://example.org/wine.git}
        run: {runner: cpu, command: x}
        actions: {fail: [*mail], error: [*mail]}
        """
    )
    assert problems == []


def test_models_cannot_be_changed(folder: ConfigFolder) -> None:
    configuration = folder.load().configuration
    assert configuration is not None
    with pytest.raises(ValueError, match="frozen"):
        configuration.pipelines["wine"].replicates = 3


def test_plain_values_take_the_environment_at_once(folder: ConfigFolder) -> None:
    main = 'storage: {path: "${{ env.STATE }}/ci"}\n'
    assert folder.problems_of_main(main, {"STATE": "/srv"}) == []
    result = folder.load({"STATE": "/srv"})
    assert result.configuration is not None
    assert result.configuration.orchestrator.storage.path == Path("/srv/ci")


def test_all_problems_of_all_files_come_at_once_in_reading_order(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", "storag: {}\nweb: {port: high}\n")
    folder.write("runners/cpu.yaml", "runner: cpu\nimage: x\nnetwrok: none\n")
    folder.write("runners/bad.yaml", 'runner: "bad\n')
    folder.write(
        "pipelines/wine.yaml",
        """\
        pipeline: wine
        pipeline: beer
        source: {git: https://example.org/wine.git, poll: 60}
        run: {runner: gpu, comand: python train.py}
        gate: {checks: [accuracy => 1]}
        """,
    )
    assert folder.problems() == [
        (
            'orchestrator.yaml:1:1: unknown key "storag"; expected one of storage, web, email, reports, github, repositories, grants, datasets, hosts, projects, servers, environments, stores, services, hooks, programs, registries, retention, secrets; '
            'did you mean "storage"?'
        ),
        'orchestrator.yaml:2:13: "high" is not possible here; expected a whole number',
        'pipelines/wine.yaml:2:1: the key "pipeline" is here a second time; it is on line 1 already; expected each key once',
        (
            'pipelines/wine.yaml:3:51: "60" is not a duration; expected a duration such as 500ms, 30s, 10m, 2h, 1h30m '
            'or 7d; did you mean "60s"?'
        ),
        'pipelines/wine.yaml:4:15: there is no runner "gpu"; expected one of bad, cpu; did you mean "cpu"?',
        (
            'pipelines/wine.yaml:4:20: unknown key "comand"; expected one of runner, setup, command, env, secrets, '
            'timeout, retry, log_limit, checkpoint_copy; did you mean "command"?'
        ),
        (
            "pipelines/wine.yaml:5:17: 'accuracy => 1' is no check; expected METRIC >= NUMBER, METRIC [proven] "
            "not worse than BASELINE by MARGIN, or METRIC better than BASELINE by MARGIN"
        ),
        'runners/bad.yaml:1:9: the quote " is never closed; expected a closing quote',
        (
            'runners/cpu.yaml:3:1: unknown key "netwrok"; expected one of runner, image, resources, hosts, network, '
            'user; did you mean "network"?'
        ),
    ]
    assert folder.load().configuration is None


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("replicates: three", '4:13: "three" is not possible here; expected a whole number'),
        (
            'replicates: "3"',
            '4:13: "3" is text, because of its quotes; expected a whole number without quotes',
        ),
        ("replicates: 0", "4:13: 0 is too small; expected at least 1"),
        (
            "replicates: {looks: [4, 2]}",
            "4:21: [4, 2] does not rise; expected rising numbers, such as [2, 4, 8]",
        ),
        (
            "replicates: [2, 4]",
            "4:13: this is a list; expected a number, or {looks: [2, 4, 8]}",
        ),
        (
            "datasets:",
            '4:1: the key "datasets" has no value; expected a mapping (key: value), or no such key',
        ),
        (
            "collect: metrics.json",
            '4:10: "metrics.json" is text; expected a list; did you mean "[metrics.json]"?',
        ),
        (
            "collect: [3]",
            "4:11: a number is not possible here; expected a file, {file: …, pattern: …} or {stdout: …}",
        ),
        ("collect: [{file: a, pattern: b}]", "4:30: the pattern has no named group, so its numbers have no"),
        ("collect: [{stdout: '(?P<step>.)'}]", "4:20: the pattern has no named group"),
        ("collect: [{stdout: '('}]", "4:20: the pattern cannot be used: missing ): ("),
        ("collect: [{stdout: '(?P<a>.)(?=b)'}]", "4:20: the pattern cannot be used: invalid perl operator"),
        ("collect: [{pattern: '(?P<a>.)'}]", '4:11: the key "file" is missing'),
        (
            "collect: [{file: a, pattern: '(?P<a>.)', format: csv}]",
            "4:42: both pattern and format are given; expected one of them",
        ),
        ("collect: [{file: ../a}]", '4:18: "../a" leaves its folder'),
        ("artifacts: [../x]", '4:13: "../x" leaves its folder; expected a relative path'),
        ("artifacts: [/etc/passwd]", '4:13: "/etc/passwd" leaves its folder'),
        (
            "schedule: [x]",
            '4:12: "x" has 1 field; expected five fields: minute, hour,',
        ),
        ("on: {push: {}}", '4:1: "on" is not available in this version'),
        ("noise: {}", '4:1: "noise" is not available in this version; expected one of pipeline,'),
        (
            "concurrency: {cancel_in_progress: yes}",
            '4:35: "yes" is not possible here; expected true or false; did you mean "true"?',
        ),
        (
            "metrics: {a: {direction: highr}}",
            '4:26: "highr" is not possible here; expected one of higher, lower; did you mean "higher"?',
        ),
        ("project: my team", '4:10: "my team" is not a name; expected letters, digits'),
        ("gate: {checks: [3]}", "4:17: this is no check, found a number"),
        (
            "gate: {checks: [accuracy better than bset]}",
            "4:17: 'bset' is no baseline; expected one of best, previous",
        ),
        (
            "gate: {checks: [{metric: accuracy, vs: bset}]}",
            "4:40: 'bset' is no baseline; expected one of best, previous, last_deployed, merge_base",
        ),
        (
            "baselines: {main: {select: 'branch:main'}}\ngate: {checks: [accuracy not worse than mian]}",
            "5:17: 'mian' is no baseline; expected one of main, best, previous",
        ),
        (
            "baselines: {main: {select: mian}}",
            '4:28: "mian" chooses no run; expected best, previous, last_deployed, merge_base',
        ),
        (
            "baselines: {main: {select: previous, confirm: 5}}",
            "4:38: previous was not chosen for its value: there is nothing to confirm",
        ),
        ("gate: {checks: [{metric: accuracy, vs: best, margin: -1%}]}", "4:54: '-1%' is no margin"),
        (
            "gate: {checks: [{metric: accuracy, thershold: 1}]}",
            '4:36: the check compares with nothing; expected {metric, threshold} or {metric, vs, claim, margin}; did you mean "threshold"?',
        ),
        (
            "gate: {checks: [{metric: accuracy, vs: best, claim: non_inferior, min_gain: 1}]}",
            "4:67: non_inferior asks for no gain; expected margin:, or claim: superior",
        ),
        (
            "gate: {checks: [{metric: accuracy, vs: best, claim: superior, margin: 1, min_gain: 1}]}",
            "4:74: both margin and min_gain are given",
        ),
        (
            "gate: {checks: [{metric: accuracy, vs: best, slices: country}]}",
            "4:46: slices are of rows; expected test: paired_rows beside it",
        ),
        (
            "gate: {checks: [{metric: accuracy, vs: best, test: paired_rows}]}",
            '4:52: nothing says which file has the predictions of "accuracy"; expected metrics: {accuracy: {predictions: ',
        ),
        (
            "gate: {require: any, checks: [accuracy not worse than best]}",
            "4:8: guards alone show nothing of which any could be enough",
        ),
        (
            "gate: {on_inconclusive: ask}",
            '4:25: "ask" is not possible here; expected one of hold, fail, pass, manual',
        ),
        ("holdout: {dataset: wine}", '4:20: "wine" is not among the datasets'),
        (
            "holdout: {dataset: wine, mode: full, max_uses: 11}",
            "4:38: mode: full bears at most 10 uses",
        ),
        (
            "drift: {metrics: [accuracy], max_pvalue: 0.0005}",
            "4:30: no change can ever show a p-value below 0.0005: 0.0005 is the least; expected more than 0.0005, such as 0.001",
        ),
        (
            "gate: {checks: [{metric: accuracy, vs: best, threshold: 1}]}",
            "4:46: a check has either threshold or vs",
        ),
        ("gate: {alpha: 0.5}", "4:15: 0.5 is too large; expected less than 0.5"),
        ("gate: {alpha: 0}", "4:15: 0 is too small"),
        (
            "actions: {fail: [github: {status: true}]}",
            "4:26: GitHub cannot be told: orchestrator.yaml has no login there",
        ),
        ("actions: {fail: [github: {comment: sometimes}]}", "4:36: "),
        (
            "actions: {fail: [emial: {to: [a@b]}]}",
            '4:18: "emial" is no action; expected one of deploy, email, github, git, upload, container, command, webhook, exec; did you mean "email"?',
        ),
        ("actions: {fail: [email]}", "4:18: this is no action, found text"),
        ("actions: {faild: []}", '4:11: unknown key "faild"; expected one of start, progress, pass, fail,'),
        (
            "actions: {fail: [email: {to: [autor]}]}",
            '4:31: "autor" is not a mail address; expected name@example.org, or the word author; did you mean "author"?',
        ),
        ("actions: {fail: [email: {to: []}]}", "4:30: this is empty; expected at least one item"),
        (
            "datasets: {wine: {path: s3://bucket/wine}}",
            '4:25: "s3://bucket/wine" is no folder of this machine; expected s3: s3://bucket/wine',
        ),
        (
            "datasets: {wine: {role: test}}",
            "4:18: where the data lie is not said; expected one of path, url, s3, gcs, sftp, hf, dvc, sql",
        ),
        ("datasets: {my wine: {path: .}}", '4:12: "my wine" is not a name'),
    ],
)
def test_a_wrong_value_in_a_pipeline_is_reported_where_it_stands(
    folder: ConfigFolder, lines: str, says: str
) -> None:
    problems = folder.problems_with(lines + "\n")
    assert any(problem.startswith(says) for problem in problems), problems


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("{runner: cpu}", '3:1: the key "command" is missing; expected command: python train.py'),
        ("{runner: cpu, command: 3}", "3:29: this is no command, found a number"),
        ("{runner: cpu, command: ''}", "3:29: the command is empty"),
        (
            "{runner: cpu, command: [python, 3]}",
            '3:38: a number stands here; expected text, so in quotes: "3"',
        ),
        (
            "{runner: cpu, command: x, env: {EPOCHS: 20}}",
            '3:46: a number stands here; expected text, so in quotes: "20"',
        ),
        ("{runner: cpu, command: x, env: {A-B: x}}", '3:38: "A-B" cannot be an environment variable'),
        (
            "{runner: cpu, command: x, timeout: 2 hours}",
            '3:41: "2 hours" is not a duration; expected a duration such as 500ms, 30s, 10m, 2h, 1h30m or 7d; did you mean "2h"?',
        ),
        ("{runner: cpu, command: x, timeout: 0s}", "3:41: this is shorter than 100ms"),
        ("{runner: cpu, command: x, log_limit: 10}", '3:43: "10" has no unit; expected a size such as'),
        ("{runner: cpu, command: x, setup: {run: y}}", '3:32: the key "key" is missing; expected key: …'),
        (
            "{runner: cpu, command: x, setup: {run: y, key: []}}",
            "3:53: this is empty; expected at least one item",
        ),
    ],
)
def test_a_wrong_value_under_run_is_reported_where_it_stands(
    folder: ConfigFolder, run: str, says: str
) -> None:
    problems = folder.problems_of_pipeline(
        f"pipeline: w\nsource: {{git: 'https://example.org/w'}}\nrun: {run}\n"
    )
    assert any(problem.startswith(says) for problem in problems), problems


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("source: {git: ../nowhere}", "2:15: "),
        ("source: {git: ..}", "2:15: "),
        (
            "source: {git: 'https://example.org/w', branches: []}",
            "2:50: this is empty; expected at least one item",
        ),
        (
            "project: x",
            "1:1: there is nothing to watch; expected source: {git: URL or path}, or sources: [...]",
        ),
        ("source: {git: 'ftp://example.org/w'}", '2:15: "ftp://" is not a way to reach a repository'),
    ],
)
def test_a_wrong_source_is_reported_where_it_stands(folder: ConfigFolder, source: str, says: str) -> None:
    problems = folder.problems_of_pipeline(f"pipeline: w\n{source}\nrun: {{runner: cpu, command: x}}\n")
    assert any(problem.startswith(says) for problem in problems), problems


@pytest.mark.parametrize(
    ("main", "says"),
    [
        ("- a\n", "1:1: the file holds a list, not a mapping"),
        ("storage:path: x\n", "1:1: "),
        (
            "storage: {database: 'mysql://u@h/d'}\n",
            "1:21: this is not the address of a database; expected sqlite",
        ),
        ("storage: {database: 'sqlite:///'}\n", "1:21: this is not the address of a database"),
        (
            "storage: {database: 'postgres://u:s3cret@h/d'}\n",
            "1:21: this is not the address of a database: PostgreSQL's begin with postgresql://",
        ),
        (
            "storage: {database: 'postgresql+psycopg2://u@h/d'}\n",
            "1:21: only the driver psycopg is supported for PostgreSQL",
        ),
        (
            "storage: {database: 'postgresql://u:${{ file:/p }}@h:54e2/d'}\n",
            "1:21: what stands behind the host's : is no port; expected sqlite",
        ),
        ("storage: {limits: {files: -1}}\n", "1:27: -1 is too small; expected at least 1"),
        ("web: {port: 99999}\n", "1:13: 99999 is too large; expected at most 65535"),
        ("web: {url: localhost}\n", '1:12: "localhost" is not a web address'),
        ("email: {smtp: 'smpts://a@b', from: a@b}\n", "1:15: this is not the address of a mail server"),
        ("email: {smtp: 'smtp://h', from: nobody}\n", '1:33: "nobody" is not a mail address'),
        ("email: {smtp: 'smtp://h', from: a@b, password: secret}\n", "1:38: there is a password and no user"),
        ("hosts: {a: {ssh: {hostname: ci@b}}}\n", "1:29: a user stands before the name"),
        ("hosts: {a: {ssh: {hostname: '-oProxyCommand=x'}}}\n", '1:29: "-oProxyCommand=x" is not the name'),
        ("hosts: {a: {ssh: {hostname: 'b;id'}}}\n", '1:29: "b;id" is not the name or address of a machine'),
        ("hosts: {a: {ssh: {hostname: b, user: -v}}}\n", '1:38: "-v" is not the name of a user'),
        (
            "hosts: {a: {ssh: {hostname: b, proxy_jump: 'a,-x'}}}\n",
            '1:44: "-x" is not a machine to jump over',
        ),
        ("hosts: {a: {ssh: {hostname: b, socket: docker.sock}}}\n", '1:40: "docker.sock" is not the path'),
        ("hosts: {a: {engine: 'ssh://ci@b'}}\n", "1:21: an engine on another machine is not written so"),
        (
            "hosts: {a: {engine: 'unix:///x', ssh: {hostname: b}}}\n",
            "1:13: both engine and ssh are given, and each names another engine",
        ),
        ("hosts: {a: {gpus: all}}\n", "1:19: text is not possible here; expected auto, none, or a list"),
        ("hosts: {a: {gpus: [0]}}\n", "1:19: a number stands here; expected text"),
        ("hosts: {a: {gpus: ['0']}}\n", '1:19: "0" is not the UUID of a GPU'),
        ("hosts: {a: {lost_after: 0s}}\n", "1:25: this is shorter than 100ms"),
        (
            "hosts: {a: {engine: /run/docker.sock}}\n",
            '1:21: "/run/docker.sock" is not the address of a Docker engine; expected unix:///PATH/TO/SOCKET; did you mean "unix:///run/docker.sock"?',
        ),
        ("hosts: {}\n", "1:1: hosts is empty, so nothing can run"),
        ("hosts: {a: {slots: yes}}\n", '1:20: "yes" is not possible here; expected a whole number'),
        (
            "hosts: {a: {reachable: [172.17.0.1, db]}}\n",
            '1:37: "db" is neither an IPv4 address nor a network',
        ),
        ("hosts: {a: {reachable: ['::1']}}\n", '1:25: "::1" is neither an IPv4 address nor a network'),
        ("hosts: {a: {reachable: [0.0.0.0/0]}}\n", "1:25: this opens every way to the host"),
        ("hosts: {a: {protect: all}}\n", '1:22: "all" is not'),
        ("servers: {a: {path: /srv}}\n", '1:11: the key "ssh" is missing'),
        ("servers: {a: {health: ftp://x}}\n", '1:23: "ftp://x" is no address that can be asked'),
        ("servers: {a: {path: srv/x}}\n", '1:21: "srv/x" is no folder for releases'),
        ("servers: {a: {ssh: {hostname: h, user: u}}}\n", "1:20: neither host_key nor known_hosts is given"),
        (
            f"servers: {{a: {{ssh: {{host_key: h {HOST_KEY}}}}}}}\n",
            f'1:31: the host name stands before the key; expected TYPE and KEY as `ssh-keyscan -t ed25519 HOST` prints them after the host\'s name; did you mean "{HOST_KEY}"?',
        ),
        ("servers: {a: {ssh: {identity_file: nokey}}}\n", "1:36: "),
        ("users: {}\n", '1:1: "users" is not available in this version'),
        (
            "secrets: {A: 3}\n",
            "1:14: a number is not possible here; expected text in quotes, or ${{ env.NAME }}",
        ),
    ],
)
def test_a_wrong_value_in_the_main_file_is_reported_where_it_stands(
    folder: ConfigFolder, main: str, says: str
) -> None:
    problems = folder.problems_of_main(main)
    assert any(problem.startswith(says) for problem in problems), problems


@pytest.mark.parametrize(
    ("runner", "says"),
    [
        (
            "image: {biuld: x}",
            '2:9: the image is neither named nor built; expected a name, {build: FOLDER} or {dockerfile: FILE}; did you mean "build"?',
        ),
        ("image: {build: nowhere}", "2:16: "),
        (
            "image: Python:3",
            '2:8: "Python:3" is not the name of an image; expected a name such as python:3.12-slim; did you mean "python:3"?',
        ),
        ("image: {dockerfile: ../Dockerfile}", '2:21: "../Dockerfile" leaves its folder'),
        (
            "image: x\nresources: {gpus: 0.5}",
            "3:19: 0.5 is no number of GPUs: they are given whole, so that two runs never share one; expected a whole number, such as 1",
        ),
        ("image: x\nresources: {gpus: -1}", "3:19: -1 is too small; expected at least 0"),
        ("image: x\nresources: {gpus: all}", '3:19: "all" is not possible here; expected a whole number'),
        ("image: x\nresources: {gpu_model: H100}", "3:13: gpu_model says which GPUs, and gpus gives none"),
        ("image: x\nresources: {gpus: 1, gpu_model: ' - '}", "3:33: this names no model of a GPU"),
        (
            "image: x\nresources: {memory: 32}",
            '3:21: "32" has no unit; expected a size such as 512m, 8g or 8GiB (1024 based), or 8GB (1000 based); did you mean "32g"?',
        ),
        (
            "image: x\nuser: 1000",
            '3:7: this must be text, found a number; expected uid:gid in quotes; did you mean "1000:1000"?',
        ),
        ("image: x\nuser: root", '3:7: "root" is not a user'),
        ("image: x\nnetwork: host", '3:10: "host" is not possible here; expected one of bridge, none'),
        ("image: x\nvolumes: [/]", '3:1: "volumes" is not available in this version'),
    ],
)
def test_a_wrong_value_in_a_runner_is_reported_where_it_stands(
    folder: ConfigFolder, runner: str, says: str
) -> None:
    folder.write("runners/cpu.yaml", f"runner: cpu\n{runner}\n")
    problems = [problem.removeprefix("runners/cpu.yaml:") for problem in folder.problems()]
    assert any(problem.startswith(says) for problem in problems), problems


def test_a_misspelt_required_key_is_one_problem(folder: ConfigFolder) -> None:
    problems = folder.problems_of_pipeline(
        "pipelne: w\nsource: {git: 'https://example.org/w'}\nrun: {runner: cpu, command: x}\n"
    )
    assert len(problems) == 1
    assert problems[0].endswith('did you mean "pipeline"?')


def test_a_missing_local_path_suggests_its_neighbour(folder: ConfigFolder) -> None:
    (folder.root / "wine").mkdir()
    problems = folder.problems_with("datasets: {wine: {path: ../wien}}\n")
    assert problems == [
        (
            f"4:25: {folder.root}/wien does not exist; expected an existing folder (relative paths count from the "
            f'configuration folder); did you mean "{folder.root}/wine"?'
        )
    ]


def test_missing_paths_and_secrets_pass_where_nobody_asks(folder: ConfigFolder) -> None:
    folder.write(
        "pipelines/wine.yaml",
        "pipeline: w\nsource: {git: ../no}\ndatasets: {d: {path: /no}}\nrun: {runner: cpu, command: x}\n",
    )
    result = load(folder.path, environ={}, check_paths=False, check_references=False)
    assert [str(problem) for problem in result.problems] == []


def test_a_missing_secret_is_reported_where_it_is_named(folder: ConfigFolder) -> None:
    problems = folder.problems(environ={})
    assert problems == [
        (
            "orchestrator.yaml:7:26: the environment variable WANDB_API_KEY is not set; expected WANDB_API_KEY in the "
            "environment of the orchestrator"
        )
    ]


def test_a_missing_secret_file_is_reported_where_it_is_named(folder: ConfigFolder) -> None:
    problems = folder.problems_of_main('secrets: {A: "${{ file:keys/a }}"}\n')
    assert problems[0].startswith(
        f"1:14: the file {folder.path}/keys/a cannot be read: No such file or directory"
    )


def test_a_missing_folder_names_the_command_that_makes_one(tmp_path: Path) -> None:
    problems = load(tmp_path / "config").problems
    assert "`orchestrator init" in problems[0].expected
    assert problems[0].message == "the configuration folder does not exist"


def test_an_empty_folder_names_the_command_that_makes_one(tmp_path: Path) -> None:
    problems = load(tmp_path).problems
    assert "`orchestrator init" in problems[0].expected
    assert problems[0].message == "there is no orchestrator.yaml in this folder"


def test_the_folder_above_leads_to_the_configuration(folder: ConfigFolder) -> None:
    assert load(folder.root).problems[0].suggestion == str(folder.path)


def test_a_file_in_place_of_the_folder_leads_to_its_folder(folder: ConfigFolder) -> None:
    assert load(folder.path / "orchestrator.yaml").problems[0].suggestion == str(folder.path)


def test_a_pipelines_file_or_folder_leads_to_the_configuration(folder: ConfigFolder) -> None:
    for place in ("pipelines/wine.yaml", "pipelines"):
        assert load(folder.path / place).problems[0].suggestion == str(folder.path)


def test_files_that_nobody_reads_are_warned_about(folder: ConfigFolder) -> None:
    folder.write("wine.yaml", "pipeline: wine\n")
    folder.write("pipeline/other.yaml", "pipeline: other\n")
    result = folder.load()
    assert result.configuration is not None
    assert [(Path(problem.file).name, problem.message) for problem in result.warnings] == [
        ("pipeline", "this folder is not read"),
        ("wine.yaml", "this file is not read"),
    ]


def test_an_empty_main_file_means_defaults(folder: ConfigFolder) -> None:
    assert folder.problems_of_main("# nothing yet\n") == []
    configuration = folder.load().configuration
    assert configuration is not None
    assert configuration.orchestrator.hosts["local"].engine == "unix:///var/run/docker.sock"
    assert configuration.orchestrator.web.host == "127.0.0.1"


def test_an_empty_pipeline_file_says_what_is_missing(folder: ConfigFolder) -> None:
    messages = folder.problems_of_pipeline("")
    assert any('the key "pipeline" is missing' in message for message in messages)
    assert any('the key "run" is missing' in message for message in messages)


def test_an_unreadable_file_is_a_problem_not_an_exception(folder: ConfigFolder) -> None:
    (folder.path / "pipelines" / "gone.yaml").symlink_to("nowhere")
    assert folder.problems() == [
        "pipelines/gone.yaml:1:1: the file cannot be read: No such file or directory; expected a readable file"
    ]


@contextmanager
def as_nobody() -> Iterator[int]:
    """As a user who is neither root nor the owner of the files."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield os.geteuid()
    finally:
        os.seteuid(before)


@pytest.fixture
def open_folder() -> Iterator[ConfigFolder]:
    """A folder that every user reaches and may read, unlike pytest's own folders and whatever the umask is."""
    with TemporaryDirectory() as created:
        folder = ConfigFolder(Path(created))
        for place in (folder.root, *folder.root.rglob("*")):
            place.chmod(0o755)
        yield folder


@pytest.mark.parametrize(
    "closed", ["config", "config/orchestrator.yaml", "config/runners", "config/runners/cpu.yaml"]
)
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_what_this_user_may_not_read_is_told_with_the_remedy(
    open_folder: ConfigFolder, closed: str, mode: int
) -> None:
    place = open_folder.root / closed
    before = place.stat().st_mode
    place.chmod(mode if os.geteuid() == 0 else 0)
    try:
        with as_nobody() as uid:
            found = load(open_folder.path, environ=ENVIRON)
    finally:
        place.chmod(before)
    assert found.configuration is None
    [told] = [str(problem) for problem in found.errors if "may not read" in str(problem)]
    assert told.startswith(f"{place}:1:1: uid {uid} may not read this; expected ")
    assert "chmod -R go+rX" in told


MAILING = """\
pipeline: wine
source: {git: https://example.org/wine.git}
run: {runner: cpu, command: python train.py}
actions: {fail: [email: {to: [a@b.org]}]%s}
"""


def test_mails_that_leave_errors_out_are_warned_about(folder: ConfigFolder) -> None:
    folder.write("pipelines/wine.yaml", MAILING % "")
    result = folder.load()
    assert result.configuration is not None
    (warning,) = result.warnings
    assert warning.message == "no action for error: nobody hears when a host or the orchestrator fails"
    assert warning.line == 4
    folder.write("pipelines/wine.yaml", MAILING % ", error: [email: {to: [a@b.org]}]")
    assert folder.load().warnings == ()


DEPLOYING = """\
pipeline: {name}
source: {{git: https://example.org/{name}.git}}
run: {{runner: cpu, command: python train.py}}
artifacts: [model.txt]
actions: {{pass: [{actions}]}}
"""


def test_a_server_is_deployed_to_by_one_pipeline_once(folder: ConfigFolder) -> None:
    deploy = "{deploy: {server: prod}}"
    folder.write("pipelines/wine.yaml", DEPLOYING.format(name="wine", actions=deploy))
    assert folder.problems() == []
    folder.write("pipelines/wood.yaml", DEPLOYING.format(name="wood", actions=deploy))
    expected = (
        "expected a server of its own in orchestrator.yaml (the same machine with another path will do)"
    )
    assert folder.problems() == [
        'pipelines/wood.yaml:5:36: the pipeline "wine" deploys to "prod" already, and each release would replace '
        "the other's; " + expected
    ]
    folder.write("pipelines/wood.yaml", DEPLOYING.format(name="wood", actions=""))
    folder.write("pipelines/wine.yaml", DEPLOYING.format(name="wine", actions=f"{deploy}, {deploy}"))
    assert folder.problems() == [
        'pipelines/wine.yaml:5:62: this pipeline deploys to "prod" already, and each release would replace '
        "the other's; " + expected
    ]


def test_a_server_of_an_environment_is_no_other_pipelines(folder: ConfigFolder) -> None:
    main = folder.path / "orchestrator.yaml"
    main.write_text(main.read_text() + "\nenvironments: {web: {servers: [prod]}}\n")
    folder.write("pipelines/wine.yaml", DEPLOYING.format(name="wine", actions="{deploy: {environment: web}}"))
    assert folder.problems() == []
    folder.write("pipelines/wood.yaml", DEPLOYING.format(name="wood", actions="{deploy: {server: prod}}"))
    (problem,) = folder.problems()
    assert 'the pipeline "wine" deploys to "prod" already' in problem


@pytest.mark.parametrize("name", ['"wine\\n"', '"wine\\nX-Header: y"'])
def test_a_name_has_no_end_of_line(folder: ConfigFolder, name: str) -> None:
    (problem,) = folder.problems_of_pipeline(
        DEPLOYING.format(name="wine", actions="").replace("wine\n", f"{name}\n", 1)
    )
    assert "is not a name" in problem


def test_a_password_of_a_registry_that_is_written_is_a_warning(folder: ConfigFolder) -> None:
    folder.write(
        "orchestrator.yaml",
        "registries: {quay.io: {username: bot, password: s3cret-word},"
        " ghcr.io: {username: bot, password: '${{ env.GHCR }}'}}\n",
    )
    result = folder.load({"GHCR": "x"})
    (warning,) = [str(problem) for problem in result.warnings if "registry" in problem.message]
    assert "orchestrator.yaml:1:49: " in warning
    assert "the registry's password is written in the file" in warning
    assert "${{ env.REGISTRY_PASSWORD }}" in warning
    assert "s3cret-word" not in repr(result)


def test_a_host_that_runs_may_reach_is_a_warning(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", "hosts: {a: {protect: none}, b: {reachable: [10.1.2.3/16]}}\n")
    result = folder.load()
    (warning,) = [problem for problem in result.warnings if "metadata" in problem.message]
    assert (warning.line, warning.column) == (1, 22)
    assert result.configuration is not None
    hosts = result.configuration.orchestrator.hosts
    assert (hosts["a"].protect, hosts["b"].protect) == ("none", "host")
    assert hosts["b"].reachable == ("10.1.0.0/16",)


def test_a_grace_has_a_longest(folder: ConfigFolder) -> None:
    text = "pipeline: w\nsource: {git: 'https://example.org/w'}\nrun: {runner: cpu, command: x}\n"
    problems = folder.problems_of_pipeline(f"{text}concurrency: {{grace: 1h}}\n")
    assert problems == ["4:15: this is longer than 10m; expected a time in which a checkpoint is written"]
