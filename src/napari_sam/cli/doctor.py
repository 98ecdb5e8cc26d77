"""`napari-sam doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

from napari_sam.cli import EXIT_FAILED


def doctor() -> int:
    """Check device, models, memory and disk; the exit code is 1 if something is wrong."""
    from napari_sam.workflows.doctor import check_machine

    findings = check_machine()
    for finding in findings:
        print(f"{'ok' if finding.ok else 'WRONG':6} {finding.what}: {finding.text}")
    return 0 if all(finding.ok for finding in findings) else EXIT_FAILED
