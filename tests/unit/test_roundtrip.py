"""What a round trip loses, as the report tells it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from plagal.tokens.roundtrip import as_table, roundtrip, roundtrip_file

FIXTURES = Path(__file__).parents[1] / "fixtures" / "midi"
OPEN_HYMNAL = Path(os.environ.get("PLAGAL_OPENHYMNAL", Path(__file__).parents[3] / "shared" / "corpus" / "openhymnal"))


def test_on_the_grid_nothing_is_lost():
    row = roundtrip_file(FIXTURES / "scale.mid")
    assert row["idempotent"] and row["grammatical"]
    assert row["notes"] == row["notes_in_range"] == row["notes_kept"] == row["notes_written"] == 8
    for name in ("onset_error_beats", "onset_error_ms", "duration_error_beats", "duration_error_ms", "velocity_error"):
        assert row[name] == {"mean": 0.0, "max": 0.0}
    assert row["losses"] == {}


def test_a_performance_keeps_all_notes_and_tells_how_far_they_moved():
    row = roundtrip_file(FIXTURES / "performance.mid")
    assert row["notes_kept"] == row["notes_in_range"] == 256
    assert 0 < row["onset_error_beats"]["max"] <= round(1 / 48, 6)
    assert row["onset_error_ms"]["max"] == pytest.approx(row["onset_error_beats"]["max"] * 731.707, rel=1e-4)
    assert row["velocity_error"]["max"] <= 19
    assert row["losses"]["notes_cut_at_restrike"] > 0


def test_what_is_left_out_or_merged_is_counted():
    row = roundtrip_file(FIXTURES / "instruments.mid")
    assert (row["notes"], row["notes_out_of_range"], row["notes_kept"]) == (11, 2, 9)
    assert row["losses"] == {"notes_drums": 2, "notes_effects": 1, "notes_out_of_range": 2}
    unisons = roundtrip_file(FIXTURES / "unisons.mid")
    assert (unisons["notes_in_range"], unisons["notes_kept"], unisons["notes_unison_merged"]) == (3, 3, 1)
    hanging = roundtrip_file(FIXTURES / "hanging.mid")
    assert hanging["notes"] == hanging["notes_kept"] == hanging["notes_written"]
    assert roundtrip_file(FIXTURES / "pedals.mid")["pedal"] == {"changes": 5, "kept": 5}
    assert roundtrip_file(FIXTURES / "metre_6_64.mid")["metre"] == {"changes": 1, "kept": 0}


def test_fixtures_come_back_word_for_word_and_broken_ones_are_named():
    report = roundtrip([FIXTURES])
    total = report["totals"]
    broken = len(list((FIXTURES / "broken").glob("*.mid")))
    assert total["unreadable"] == broken
    assert total["idempotent"] == total["grammatical"] == total["files"] - broken
    assert total["notes_kept"] == total["notes_in_range"]
    assert total["notes_written"] == total["notes_in_range"] - total["notes_unison_merged"]
    assert json.loads(json.dumps(report)) == report
    assert len(as_table(report).splitlines()) == total["files"] + 1


@pytest.mark.skipif(not OPEN_HYMNAL.is_dir(), reason="the Open Hymnal is not on this machine")
def test_the_open_hymnal_comes_back_whole():
    total = roundtrip([OPEN_HYMNAL])["totals"]
    assert total["files"] == total["idempotent"] == total["grammatical"] == total["with_offset"] == 275
    assert total["notes_kept"] == total["notes_in_range"]
    assert total["notes_written"] == total["notes_in_range"] - total["losses"]["notes_unison_merged"]
    # 30 of its hymns hold 64th notes, which lie between our ticks.
    assert total["onsets_exact"] == 245
    assert total["onset_error_beats"]["max"] <= round(1 / 48, 6)
    assert total["tempo"]["error_max_percent"] <= 1


def test_chorales_of_music21_come_back_whole():
    import music21

    folder = Path(music21.__file__).parent / "corpus" / "bach"
    total = roundtrip([folder / "bwv1.6.mxl", folder / "bwv26.6.mxl", folder / "bwv253.mxl"])["totals"]
    assert total["files"] == total["idempotent"] == total["onsets_exact"] == 3
    assert total["notes_kept"] == total["notes_in_range"] > 500
