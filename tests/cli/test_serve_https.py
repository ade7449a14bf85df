"""``limpet serve`` over TLS, with a certificate of one's own, and what it says about certificates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.helpers import forked
from tests.helpers.command_line import limpet


def started(*arguments: str, **environment: str) -> tuple[subprocess.Popen[str], list[str]]:
    process = forked.Popen(
        [sys.executable, "-m", "limpet", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    assert process.stdout is not None
    lines: list[str] = []
    while sum("access_token=" in line for line in lines) < 2:
        lines.append(process.stdout.readline().rstrip("\n"))
        assert lines[-1] or process.poll() is None, lines
    return process, lines


@pytest.mark.parametrize("apart", [False, True], ids=["one file", "two files"])
def test_a_certificate_of_ones_own(tmp_path: Path, apart: bool) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    trusted, chain, key = (tmp_path / name for name in ("authority.pem", "chain.pem", "key.pem"))
    authority.cert_pem.write_to_path(trusted)
    arguments = ["--certificate", str(chain)]
    if apart:
        chain.write_bytes(leaf.cert_chain_pems[0].bytes())
        leaf.private_key_pem.write_to_path(key)
        arguments += ["--certificate-key", str(key)]
    else:
        leaf.private_key_and_cert_chain_pem.write_to_path(chain)
    process, lines = started(*arguments)
    try:
        url = next(line.strip() for line in lines if "wss://" in line)
        assert "https://127.0.0.1:" in lines[0]
        assert "export" not in "".join(lines)
        sent = limpet("pub", "--url", url, "room", "hello", SSL_CERT_FILE=str(trusted))
        assert sent.returncode == 0, sent.stderr
        refused = limpet("pub", "--url", url, "room", "hello", SSL_CERT_FILE="")
        assert refused.returncode == 1
        assert "certificate" in refused.stderr
    finally:
        process.kill()
        process.communicate()


def test_over_http_it_says_what_the_javascript_sdk_needs() -> None:
    process, lines = started()
    process.kill()
    process.communicate()
    assert any("allowInsecureConnection: true" in line for line in lines)
    assert any("--https" in line for line in lines)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "limpet").write_text("a file")
    result = limpet("serve", "--https", "--port", "0", XDG_CONFIG_HOME=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path) in result.stderr
    assert "--certificate" in result.stderr


@pytest.mark.parametrize("contents", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_without_a_certificate_are_told(tmp_path: Path, contents: str) -> None:
    file = tmp_path / "a.pem"
    file.write_text(contents)
    for more in ([], ["--certificate-key", str(file)]):
        result = limpet("serve", "--certificate", str(file), *more)
        assert result.returncode == 1
        assert result.stderr.startswith("Error: no certificate with its private key, both as PEM, in ")
        assert str(file) in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    one, other = (trustme.CA().issue_cert("127.0.0.1") for _ in range(2))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    one.cert_chain_pems[0].write_to_path(chain)
    other.private_key_pem.write_to_path(key)
    result = limpet("serve", "--certificate", str(chain), "--certificate-key", str(key))
    assert result.returncode == 1
    assert "mismatch" in result.stderr.lower()


def test_a_key_alone_is_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("")
    result = limpet("serve", "--certificate-key", str(file))
    assert result.returncode == 2
    assert "give both" in result.stderr


@pytest.mark.parametrize("more", [[], ["--key", "a file's name of 32 characters.."]], ids=["forgotten", "--key"])
def test_a_certificate_without_its_key_is_told_where_the_key_goes(tmp_path: Path, more: list[str]) -> None:
    chain = tmp_path / "chain.pem"
    trustme.CA().issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(chain)
    result = limpet("serve", "--port", "0", "--certificate", str(chain), *more)
    assert result.returncode == 1
    assert "if the key has a file of its own, name it with --certificate-key" in result.stderr


@pytest.mark.parametrize("apart", [False, True], ids=["one file", "two files"])
def test_a_key_behind_a_passphrase_is_told_and_nobody_asked(tmp_path: Path, apart: bool) -> None:
    leaf = trustme.CA().issue_cert("127.0.0.1")
    chain, file = tmp_path / "chain.pem", tmp_path / "key.pem"
    leaf.cert_chain_pems[0].write_to_path(chain)
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    file.write_bytes(locked if apart else chain.read_bytes() + locked)
    arguments = ["--certificate", str(chain), "--certificate-key", str(file)] if apart else ["--certificate", str(file)]
    result = limpet("serve", "--port", "0", *arguments)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: the private key in {file} needs a passphrase, which a service cannot ask for: "
        "write it to a file without one, for example with: openssl pkey -in FILE -out NEW_FILE\n"
    )


def test_a_file_as_the_access_key_is_told_apart() -> None:
    result = limpet("serve", "--certificate", __file__, "--key", "key.pem")
    assert result.returncode == 1
    assert "access_key must have at least 32 bytes" in result.stderr
    assert "it signs tokens, and is not the name of a file" in result.stderr
    assert "The private key of --certificate is --certificate-key" in " ".join(limpet("serve", "--help").stdout.split())
