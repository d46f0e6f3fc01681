"""Names that the documents of version 0.1.0 gave to users go on working."""


def test_documented_imports_work():
    from harmonixr_model.infiller import Fill, Infiller, shipped_weights
    from harmonixr_model.music.region import Region
    from harmonixr_model.music.song import Song

    assert Infiller.load
    assert shipped_weights().is_file()
    assert Fill.__dataclass_fields__.keys() >= {"midi", "notes", "tokens", "seed", "log_probability", "dropped"}
    assert Region.bars
    assert Song.parse
