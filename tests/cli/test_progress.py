"""A log gets a few readable lines instead of a bar."""

from harmonixr_platform.cli.progress import progress_bar


def test_a_log_names_each_stage_once(capsys):
    with progress_bar("loading") as bar:
        for _ in range(100):
            bar.update(0)
        bar.set_description_str("filling")
        bar.write("filled")
    out, err = capsys.readouterr()
    assert out == "filled\n"
    assert err == "loading … 00:00\nfilling … 00:00\n"


def test_a_log_gets_the_first_and_the_last_count(capsys):
    with progress_bar("measuring", 1000, "gap") as bar:
        for _ in range(1000):
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("measuring: 0/1000 [")
    assert lines[1].startswith("measuring: 1000/1000 [")
