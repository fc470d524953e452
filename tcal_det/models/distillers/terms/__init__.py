from .logit_term import distilled_loss
from .table import check_mixture, term_of
from .term import Term

__all__ = ['Term', 'check_mixture', 'distilled_loss', 'term_of']
