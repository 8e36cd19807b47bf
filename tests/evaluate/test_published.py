"""The papers' figures as printed."""

from training.evaluate.reporting import published


def test_published_figures_name_their_source_and_how_sure_they_are():
    text = published.published_table(published.ESC50)
    [line] = [line for line in text.splitlines() if line.startswith("OpenL3 mel256 music")]
    assert line.split()[-1] == "unsure"
    header = published.published_table(published.AVC).splitlines()[0].split()
    assert header == "published Kinetics-Sounds Flickr-SoundNet AudioSet-Instruments Kinetics source how sure".split()
    for rows in (published.ESC50, published.DCASE2014, published.AVC, published.RETRIEVAL, published.IMAGENET):
        assert len({row.method for row in rows}) == len(rows)  # no row hides another


def test_the_main_figures_are_those_of_the_papers():
    def figures(rows, *columns):
        return {row.method: tuple(row.values.get(column) for column in columns) for row in rows}

    found = figures(published.AVC, "Flickr-SoundNet", "Kinetics-Sounds", "AudioSet-Instruments")
    assert found["L3-Net"] == (78, 74, None)
    assert found["supervised direct combination"] == (None, 65, None)
    assert found["supervised pretraining"] == (None, 74, None)
    assert found["L3-Net of Objects that Sound"] == (None, None, 80.8)
    assert found["AVE-Net"] == (None, None, 81.9)
    assert figures(published.TABLE1, "Kinetics-Sounds") == {
        "supervised direct combination": (65,),
        "supervised pretraining": (74,),
        "L3-Net": (74,),
    }
    esc50 = {
        "human": 81.3,
        "SVM on MFCCs": 39.6,
        "random forest": 44.3,
        "Piczak's ConvNet": 64.5,
        "SoundNet": 74.2,
        "L3-Net, random weights": 62.5,
        "L3-Net, Flickr-SoundNet 500k": 79.3,
        "L3-Net of Objects that Sound": 79.8,
        "AVTS, no pretraining": 61.6,
        "AVTS, Kinetics": 76.7,
        "AVTS, AudioSet": 80.6,
        "AVTS, SoundNet 2M": 82.3,
    }
    assert {key: value for key, (value,) in figures(published.ESC50, "ESC-50").items() if key in esc50} == esc50
    found = figures(published.DCASE2014, "DCASE2014")
    assert found["L3-Net, random weights"] == (85,) and found["L3-Net, Flickr-SoundNet 500k"] == (93,)
    assert (found["SoundNet"], found["ensemble"], found["AVTS, SoundNet 2M"]) == ((88,), (78,), (94,))
    found = figures(published.IMAGENET, "ImageNet top-1")
    assert found["L3-Net, random weights"] == (12.9,) and found["L3-Net, Flickr-SoundNet 500k"] == (32.3,)
    assert (found["random AlexNet"], found["Doersch"], found["Noroozi and Favaro"]) == ((18.3,), (31.7,), (34.7,))
    queries = ("im-im nDCG@30", "im-aud nDCG@30", "aud-im nDCG@30", "aud-aud nDCG@30")
    found = figures(published.RETRIEVAL, *queries)
    assert found["AVE-Net, AudioSet-Instruments"] == (0.604, 0.561, 0.587, 0.665)
    assert found["L3-Net, AudioSet-Instruments"] == (0.567, 0.418, 0.385, 0.653)
    assert found["L3-Net with CCA, AudioSet-Instruments"] == (0.578, 0.531, 0.560, 0.649)
