"""What is not there when the configuration is read stops what needs it, and nothing else."""

from __future__ import annotations

import logging

import pytest

from orchestrator.bootstrap.configured import ConfigurationInvalid, read_configuration
from tests.support.configuration import ConfigFolder

GONE = "pipeline: gone\nsource: {git: ../gone}\nrun: {runner: cpu, command: python train.py}\n"


def test_a_repository_that_is_gone_is_warned_of_and_the_other_pipelines_go_on(
    folder: ConfigFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write("pipelines/gone.yaml", GONE)
    with caplog.at_level(logging.WARNING):
        configuration = read_configuration(folder.path)
    assert set(configuration.pipelines) == {"wine", "gone"}
    [told] = caplog.messages
    assert "gone does not exist" in told


def test_a_mistake_beside_it_is_an_error_and_all_is_told(folder: ConfigFolder) -> None:
    folder.write("pipelines/gone.yaml", GONE + "unknown: key\n")
    with pytest.raises(ConfigurationInvalid) as caught:
        read_configuration(folder.path)
    assert 'unknown key "unknown"' in str(caught.value)
    assert "gone does not exist" in str(caught.value)
