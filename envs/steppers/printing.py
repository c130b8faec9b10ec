"""From sympy expressions to Python source, for torch and for numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy
from sympy.logic.boolalg import BooleanFalse, BooleanTrue

Names = Mapping[sympy.Symbol, str]

_FUNCTIONS = {
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.tanh: "tanh",
    sympy.Abs: "absolute",
    sympy.sign: "sign",
    sympy.Heaviside: "heaviside",
}


class Printer:
    """Prints an expression as Python source in which every symbol has a given name.

    The source calls `sin`, `where`, `maximum`, ... by these names, which the backend supplies, and
    writes numbers through `literal`.

    Args:
        literal: Writes a float as source.

    Attributes:
        longest_product: Whole powers up to this one are written as products.
    """

    longest_product = 8

    def __init__(self, literal: Callable[[float], str] = repr) -> None:
        self.literal = literal

    def __call__(self, expression: sympy.Basic, names: Names) -> str:
        """Returns the source of an expression.

        Raises:
            ValueError: The expression contains an operation that no backend has.
        """
        if isinstance(expression, sympy.Symbol):
            return names[expression]
        if isinstance(expression, BooleanTrue | BooleanFalse):
            return str(bool(expression))
        if isinstance(expression, sympy.Expr) and expression.is_number:
            return self.literal(float(expression))
        if isinstance(expression, sympy.Add):
            return self._sum(expression, names)
        if isinstance(expression, sympy.Mul):
            return self._product(expression, names)
        if isinstance(expression, sympy.Pow):
            return self._power(expression.base, expression.exp, names)
        if isinstance(expression, sympy.Piecewise):
            return self._piecewise(expression, names)
        return self._call(expression, names)

    def _call(self, expression: sympy.Basic, names: Names) -> str:
        arguments = [self(argument, names) for argument in expression.args[:2]]
        if type(expression) in _FUNCTIONS:
            return f"{_FUNCTIONS[type(expression)]}({arguments[0]})"
        if isinstance(expression, sympy.core.relational.Relational):
            return f"({arguments[0]} {expression.rel_op} {arguments[1]})"
        if isinstance(expression, sympy.Not):
            return f"logical_not({arguments[0]})"
        for kind, name in (
            (sympy.Max, "maximum"),
            (sympy.Min, "minimum"),
            (sympy.And, "logical_and"),
            (sympy.Or, "logical_or"),
        ):
            if isinstance(expression, kind):
                return self._nested(name, [self(a, names) for a in expression.args])
        raise ValueError(
            f"no backend can compute {type(expression).__name__} (in {expression}); allowed: "
            "+ - * / **, comparisons, and the functions of separatrix.envs.steppers.functions"
        )

    def quotient(self, numerator: str, denominator: str) -> str:
        """Writes a division of one source, a product at most, by another."""
        return f"{numerator} / ({denominator})"

    def power(self, base: str, exponent: str) -> str:
        """Writes a power that is no product."""
        return f"{base} ** {exponent}"

    @staticmethod
    def _nested(name: str, arguments: Sequence[str]) -> str:
        result = arguments[0]
        for argument in arguments[1:]:
            result = f"{name}({result}, {argument})"
        return result

    def _piecewise(self, expression: sympy.Piecewise, names: Names) -> str:
        *branches, (last, condition) = expression.args
        if condition != sympy.true:
            raise ValueError(f"a case of {expression} is undefined; give where() both branches")
        result = self(last, names)
        for value, test in reversed(branches):
            result = f"where({self(test, names)}, {self(value, names)}, {result})"
        return result

    def _sum(self, expression: sympy.Add, names: Names) -> str:
        # Positive terms first, so that `rho - z` is not printed as `-z + rho`.
        terms = sorted(expression.args, key=lambda term: term.could_extract_minus_sign())
        source = self(terms[0], names)
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            source += f" - {self(-term, names)}" if negative else f" + {self(term, names)}"
        return f"({source})"

    def _product(self, expression: sympy.Mul, names: Names) -> str:
        coefficient, factors = expression.as_coeff_mul()
        numerator, denominator = [], []
        for factor in factors:
            base, exponent = factor.as_base_exp()
            if exponent.is_number and exponent.is_negative:
                denominator.append(self._power(base, -exponent, names))
            else:
                numerator.append(self(factor, names))
        if abs(coefficient) != 1 or not numerator:
            numerator.insert(0, self.literal(abs(float(coefficient))))
        source = " * ".join(numerator)
        if denominator:
            source = self.quotient(source, " * ".join(denominator))
        return f"(-({source}))" if coefficient < 0 else f"({source})"

    def _power(self, base: sympy.Expr, exponent: sympy.Expr, names: Names) -> str:
        if base.is_number and exponent.is_number:
            return self.literal(float(base**exponent))
        printed = self(base, names)
        if exponent == sympy.Rational(1, 2):
            return f"sqrt({printed})"
        if exponent.is_number and exponent.is_negative:
            inverse = self._power(base, -exponent, names)
            return f"({self.quotient(self.literal(1.0), inverse)})"
        if exponent.is_Integer and exponent <= self.longest_product:
            return f"({' * '.join([printed] * int(exponent))})"
        return f"({self.power(printed, self(exponent, names))})"


class Block:
    """A list of expressions with their common sub-expressions computed once.

    Args:
        expressions: What is to be computed.
    """

    def __init__(self, expressions: Sequence[sympy.Basic]) -> None:
        # A power is printed as a product of its base, which then must be no long expression.
        powers = {power for expression in expressions for power in expression.atoms(sympy.Pow)}
        bases = {p.base for p in powers if p.exp.is_Integer and abs(p.exp) > 1}
        repeated = sorted(bases, key=sympy.default_sort_key)
        self._shared, results = sympy.cse([*expressions, *repeated], order="none")
        self._results = results[: len(expressions)]

    @property
    def operations(self) -> int:
        """Number of arithmetic operations and function calls."""
        computed = [*(expression for _, expression in self._shared), *self._results]
        return sum(int(sympy.count_ops(expression)) for expression in computed)

    def source(self, printer: Printer, names: Names, prefix: str) -> tuple[list[str], list[str]]:
        """Prints the block.

        Args:
            printer: The dialect.
            names: Names of the input symbols.
            prefix: Prefix of the temporary names.

        Returns:
            Assignments of the shared sub-expressions, and the source of each result.
        """
        names = dict(names)
        lines = []
        for i, (symbol, expression) in enumerate(self._shared):
            lines.append(f"{prefix}{i} = {printer(expression, names)}")
            names[symbol] = f"{prefix}{i}"
        return lines, [printer(result, names) for result in self._results]
