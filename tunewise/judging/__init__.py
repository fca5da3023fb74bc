"""Judging: a language model scores the texts that runs have written, or compares two runs."""

from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import JudgeError
from tunewise.judging.pairs import PairJudgement, judge_pair
from tunewise.judging.scores import Judgement, judge_run

__all__ = ["JudgeConfig", "JudgeError", "Judgement", "PairJudgement", "judge_pair", "judge_run"]
