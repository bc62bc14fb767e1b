"""The works that methods sections cite, and methods sections as plain text, Markdown and LaTeX with a BibTeX file."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Hold a work: authors as "Last, First", and how it is cited in the text ("Nili et al. 2014")."""

    authors: tuple[str, ...]
    year: int
    title: str
    place: str
    volume: str = ""
    pages: str = ""
    doi: str = ""
    kind: str = "article"

    @property
    def cited(self) -> str:
        """Return the citation in the text."""
        last = [author.split(",")[0] for author in self.authors]
        who = f"{last[0]} et al." if len(last) > 2 else " and ".join(last)
        return f"{who} {self.year}"

    @property
    def key(self) -> str:
        """Return the BibTeX key, as nili2014."""
        plain = self.authors[0].split(",")[0].lower().translate(str.maketrans("äöü", "aou"))
        return f"{re.sub('[^a-z]', '', plain)}{self.year}"

    def write_bibtex(self) -> str:
        """Write the BibTeX entry."""
        where = {"article": "journal", "inproceedings": "booktitle", "techreport": "institution"}[self.kind]
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",
            where: self.place,
            "year": str(self.year),
            "volume": self.volume,
            "pages": self.pages.replace("–", "--"),
            "doi": self.doi,
        }
        lines = [f"  {name} = {{{text}}}," for name, text in fields.items() if text]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])

    def write_plain(self) -> str:
        """Write the entry of a list of references."""
        where = ", ".join(filter(None, (self.place, self.volume, self.pages)))
        end = f" doi:{self.doi}" if self.doi else ""
        return f"{'; '.join(self.authors)} ({self.year}). {self.title}. {where}.{end}"


WORKS = (
    Work(
        ("Benjamini, Yoav", "Hochberg, Yosef"),
        1995,
        "Controlling the false discovery rate: a practical and powerful approach to multiple testing",
        "Journal of the Royal Statistical Society B",
        "57",
        "289–300",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    Work(
        ("Berger, Roger L.",),
        1982,
        "Multiparameter hypothesis testing and acceptance sampling",
        "Technometrics",
        "24",
        "295–300",
        "10.1080/00401706.1982.10487790",
    ),
    Work(
        (
            "Bullmore, Edward T.",
            "Suckling, John",
            "Overmeyer, Stephan",
            "Rabe-Hesketh, Sophia",
            "Taylor, Eric",
            "Brammer, Michael J.",
        ),
        1999,
        "Global, voxel, and cluster tests, by theory and permutation, for a difference between two groups of "
        "structural MR images of the brain",
        "IEEE Transactions on Medical Imaging",
        "18",
        "32–42",
        "10.1109/42.750253",
    ),
    Work(
        ("Cai, Ming Bo", "Schuck, Nicolas W.", "Pillow, Jonathan W.", "Niv, Yael"),
        2019,
        "Representational structure or task structure? Bias in neural representational similarity analysis and a "
        "Bayesian method for reducing bias",
        "PLOS Computational Biology",
        "15",
        "e1006299",
        "10.1371/journal.pcbi.1006299",
    ),
    Work(
        (
            "Huth, Alexander G.",
            "de Heer, Wendy A.",
            "Griffiths, Thomas L.",
            "Theunissen, Frédéric E.",
            "Gallant, Jack L.",
        ),
        2016,
        "Natural speech reveals the semantic maps that tile human cerebral cortex",
        "Nature",
        "532",
        "453–458",
        "10.1038/nature17637",
    ),
    Work(
        ("Schoppe, Oliver", "Harper, Nicol S.", "Willmore, Ben D. B.", "King, Andrew J.", "Schnupp, Jan W. H."),
        2016,
        "Measuring the performance of neural models",
        "Frontiers in Computational Neuroscience",
        "10",
        "10",
        "10.3389/fncom.2016.00010",
    ),
    Work(
        (
            "Diedrichsen, Jörn",
            "Berlot, Eva",
            "Mur, Marieke",
            "Schütt, Heiko H.",
            "Shahbazi, Mahdiyar",
            "Kriegeskorte, Nikolaus",
        ),
        2021,
        "Comparing representational geometries using whitened unbiased-distance-matrix similarity",
        "Neurons, Behavior, Data analysis, and Theory",
        "5",
        "",
        "10.51628/001c.27664",
    ),
    Work(
        ("Duchon, Claude E.",),
        1979,
        "Lanczos filtering in one and two dimensions",
        "Journal of Applied Meteorology",
        "18",
        "1016–1022",
        "10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2",
    ),
    Work(
        ("Erhan, Dumitru", "Bengio, Yoshua", "Courville, Aaron", "Vincent, Pascal"),
        2009,
        "Visualizing higher-layer features of a deep network",
        "University of Montreal",
        "",
        "",
        "",
        "techreport",
    ),
    Work(
        ("Kriegeskorte, Nikolaus", "Goebel, Rainer", "Bandettini, Peter"),
        2006,
        "Information-based functional brain mapping",
        "Proceedings of the National Academy of Sciences",
        "103",
        "3863–3868",
        "10.1073/pnas.0600244103",
    ),
    Work(
        ("Kriegeskorte, Nikolaus", "Mur, Marieke", "Bandettini, Peter"),
        2008,
        "Representational similarity analysis – connecting the branches of systems neuroscience",
        "Frontiers in Systems Neuroscience",
        "2",
        "4",
        "10.3389/neuro.06.004.2008",
    ),
    Work(
        ("Ledoit, Olivier", "Wolf, Michael"),
        2004,
        "A well-conditioned estimator for large-dimensional covariance matrices",
        "Journal of Multivariate Analysis",
        "88",
        "365–411",
        "10.1016/S0047-259X(03)00096-4",
    ),
    Work(
        ("Mumford, Jeanette A.", "Turner, Benjamin O.", "Ashby, F. Gregory", "Poldrack, Russell A."),
        2012,
        "Deconvolving BOLD activation in event-related designs for multivoxel pattern classification analyses",
        "NeuroImage",
        "59",
        "2636–2643",
        "10.1016/j.neuroimage.2011.08.076",
    ),
    Work(
        ("Nadeau, Claude", "Bengio, Yoshua"),
        2003,
        "Inference for the generalization error",
        "Machine Learning",
        "52",
        "239–281",
        "10.1023/A:1024068626366",
    ),
    Work(
        ("Nichols, Thomas E.", "Holmes, Andrew P."),
        2002,
        "Nonparametric permutation tests for functional neuroimaging: a primer with examples",
        "Human Brain Mapping",
        "15",
        "1–25",
        "10.1002/hbm.1058",
    ),
    Work(
        (
            "Nili, Hamed",
            "Wingfield, Cai",
            "Walther, Alexander",
            "Su, Li",
            "Marslen-Wilson, William",
            "Kriegeskorte, Nikolaus",
        ),
        2014,
        "A toolbox for representational similarity analysis",
        "PLOS Computational Biology",
        "10",
        "e1003553",
        "10.1371/journal.pcbi.1003553",
    ),
    Work(
        ("Olah, Chris", "Mordvintsev, Alexander", "Schubert, Ludwig"),
        2017,
        "Feature visualization",
        "Distill",
        "2",
        "e7",
        "10.23915/distill.00007",
    ),
    Work(
        ("Oosterhof, Nikolaas N.", "Wiestler, Tobias", "Downing, Paul E.", "Diedrichsen, Jörn"),
        2011,
        "A comparison of volume-based and surface-based multi-voxel pattern analysis",
        "NeuroImage",
        "56",
        "593–600",
        "10.1016/j.neuroimage.2010.04.270",
    ),
    Work(
        ("Schäfer, Juliane", "Strimmer, Korbinian"),
        2005,
        "A shrinkage approach to large-scale covariance matrix estimation and implications for functional genomics",
        "Statistical Applications in Genetics and Molecular Biology",
        "4",
        "32",
        "10.2202/1544-6115.1175",
    ),
    Work(
        ("Schütt, Heiko H.", "Kipnis, Alexander D.", "Diedrichsen, Jörn", "Kriegeskorte, Nikolaus"),
        2023,
        "Statistical inference on representational geometries",
        "eLife",
        "12",
        "e82566",
        "10.7554/eLife.82566",
    ),
    Work(
        (
            "Selvaraju, Ramprasaath R.",
            "Cogswell, Michael",
            "Das, Abhishek",
            "Vedantam, Ramakrishna",
            "Parikh, Devi",
            "Batra, Dhruv",
        ),
        2017,
        "Grad-CAM: visual explanations from deep networks via gradient-based localization",
        "IEEE International Conference on Computer Vision",
        "",
        "618–626",
        "10.1109/ICCV.2017.74",
        "inproceedings",
    ),
    Work(
        ("Smith, Stephen M.", "Nichols, Thomas E."),
        2009,
        "Threshold-free cluster enhancement: addressing problems of smoothing, threshold dependence and localisation "
        "in cluster inference",
        "NeuroImage",
        "44",
        "83–98",
        "10.1016/j.neuroimage.2008.03.061",
    ),
    Work(
        ("Spearman, Charles",),
        1910,
        "Correlation calculated from faulty data",
        "British Journal of Psychology",
        "3",
        "271–295",
        "10.1111/j.2044-8295.1910.tb00206.x",
    ),
    Work(
        (
            "Walther, Alexander",
            "Nili, Hamed",
            "Ejaz, Naveed",
            "Alink, Arjen",
            "Kriegeskorte, Nikolaus",
            "Diedrichsen, Jörn",
        ),
        2016,
        "Reliability of dissimilarity measures for multi-voxel pattern analysis",
        "NeuroImage",
        "137",
        "188–200",
        "10.1016/j.neuroimage.2015.12.012",
    ),
    Work(
        ("Zhou, Bolei", "Khosla, Aditya", "Lapedriza, Agata", "Oliva, Aude", "Torralba, Antonio"),
        2016,
        "Learning deep features for discriminative localization",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        "",
        "2921–2929",
        "10.1109/CVPR.2016.319",
        "inproceedings",
    ),
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def list_works(methods: str) -> list[Work]:
    """List the works that a methods section cites, by author and year.

    Examples
    --------
    >>> [work.key for work in list_works("as usual (Nili et al. 2014, doi:10.1371/journal.pcbi.1003553).")]
    ['nili2014']
    """
    return [work for work in WORKS if work.cited in methods]


def write_references(methods: str) -> str:
    """Write a methods section as plain text, with the list of the works that it cites."""
    works = [work.write_plain() for work in list_works(methods)]
    return "\n\n".join([methods, "References", *works]) if works else methods


def write_markdown(methods: str) -> str:
    """Write a methods section in Markdown with citations as pandoc reads them.

    Examples
    --------
    >>> write_markdown("as usual (Nili et al. 2014, doi:10.1371/journal.pcbi.1003553).")
    '## Methods\\n\\nas usual (@nili2014).'
    """
    return "## Methods\n\n" + _replace_citations(re.sub(r"([*_`])", r"\\\1", methods), "@{}")


def write_latex(methods: str) -> str:
    """Write a methods section in LaTeX with citations of natbib.

    Examples
    --------
    >>> print(write_latex("at 5 % (Nili et al. 2014, doi:10.1371/journal.pcbi.1003553)."))
    \\section*{Methods}
    <BLANKLINE>
    at 5 \\% (\\citealp{nili2014}).
    """
    marked = _replace_citations(methods, "\0{}\1")
    text = "".join(_LATEX.get(letter, letter) for letter in marked)
    return "\\section*{Methods}\n\n" + re.sub("\0(.*?)\1", r"\\citealp{\1}", text)


def write_bibliography(methods: str) -> str:
    """Write a BibTeX file of the works that a methods section cites."""
    return "\n\n".join(work.write_bibtex() for work in list_works(methods)) + "\n"


def _replace_citations(text: str, form: str) -> str:
    """Replace each citation, with its DOI if there is one, by the key of the work."""
    for work in WORKS:
        pattern = re.escape(work.cited) + (rf"(?:, doi:{re.escape(work.doi)})?" if work.doi else "")
        key = form.format(work.key)
        text = re.sub(pattern, key.replace("\\", r"\\"), text)
    return text
