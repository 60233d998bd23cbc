# near-minimax by Remez-free Chebyshev interpolation in high precision
from mpmath import mp, mpf, chebyfit, log, sin, cos, pi, sqrt, polyval, atanh
mp.dps=60
def fit(f,a,b,n):
    p,e=chebyfit(f,[a,b],n,error=True); return p[::-1],e
import struct
def ser_R(z):
    # (2 atanh(s)/s - 2)/z
    return sum(mpf(2)/(2*k+3)*z**k for k in range(0,60))
zmax=((sqrt(mpf(2))-1)/(sqrt(mpf(2))+1))**2
def show(name,c,e):
    print(name, 'err',mp.nstr(e,5))
    for x in c: print('   ',repr(float(x)), float(x).hex())
for n in (6,7):
    show('ln%d'%n,*fit(ser_R,mpf(0),zmax*mpf('1.0001'),n))
h=pi/2
def S(z): return sum((-1)**k*h**(2*k+1)*z**k/mp.factorial(2*k+1) for k in range(0,30))
def C(z): return sum((-1)**(k+1)*h**(2*k+2)*z**k/mp.factorial(2*k+2) for k in range(0,30))
for n in (6,7): show('sin%d'%n,*fit(S,mpf(0),mpf('0.25'),n))
for n in (6,7): show('cos%d'%n,*fit(C,mpf(0),mpf('0.25'),n))
